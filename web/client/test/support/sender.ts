// The office: sends one notice after the other, each until it is accepted, whatever becomes of the gateway meanwhile.
import type { Gateway } from "./gateway.ts";

/** Between two tries while the gateway is away, ms. */
const RETRY_AFTER = 10;

export class Sender {
  /** clientMsgIDs, in the order in which they were accepted. */
  readonly accepted: string[] = [];
  readonly #gateway: Gateway;
  readonly #user: string;
  #isStopped = false;
  #sending: Promise<void> = Promise.resolve();

  constructor(gateway: Gateway, user: string) {
    this.#gateway = gateway;
    this.#user = user;
  }

  /** Sends on and on. */
  start(): void {
    this.#sending = this.#sendOn();
  }

  /** Ends with a last notice, for somebody to wait for; resolves when it was accepted. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#sending;
    await this.#sendNext();
  }

  async #sendOn(): Promise<void> {
    while (!this.#isStopped) await this.#sendNext();
  }

  async #sendNext(): Promise<void> {
    const clientMsgID = `m-${this.accepted.length}`;
    while (!(await this.#isAccepted(clientMsgID))) {
      await new Promise((resolve) => setTimeout(resolve, RETRY_AFTER));
    }
    this.accepted.push(clientMsgID);
  }

  async #isAccepted(clientMsgID: string): Promise<boolean> {
    try {
      const { errCode } = await this.#gateway.send({ recvID: this.#user, clientMsgID });
      return errCode === 0;
    } catch {
      // The gateway is being killed: whether it was accepted is not known, and asking again is safe.
      return false;
    }
  }
}
