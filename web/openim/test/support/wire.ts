// Messages between a test and the process that an SDK runs in.
import type { Callback } from "./device.ts";

/** A method of the SDK to call. */
export interface Call {
  id: number;
  method: string;
  args: unknown[];
}

/** An answer to a call, a line of the SDK's log, or a callback. */
export type Told =
  | { id: number; data: unknown }
  | { id: number; errCode: number; errMsg: string }
  | { logged: string }
  | Callback;

/** Serves calls by the SDK that this process was made for. */
export function serve(call: (method: string, args: unknown[]) => Promise<unknown>): void {
  process.on("message", async ({ id, method, args }: Call) => {
    try {
      const answer = (await call(method, args)) as { data?: unknown; errCode?: number; errMsg?: string };
      if (answer.errCode) throw answer;
      tell({ id, data: answer.data });
    } catch (failure) {
      const { errCode = 0, errMsg = String(failure) } = failure as { errCode?: number; errMsg?: string };
      tell({ id, errCode, errMsg });
    }
  });
  // The test that it belonged to is gone.
  process.on("disconnect", () => process.exit());
}

export function tell(told: Told): void {
  process.send?.(told);
}
