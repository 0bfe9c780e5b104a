// Who is online, on which platforms; and logging them out.
import { useEffect, useState } from "preact/hooks";
import { type Api, explain } from "./api.ts";

const PLATFORMS = [
  "IOS",
  "Android",
  "Windows",
  "OSX",
  "Web",
  "MiniWeb",
  "Linux",
  "AndroidPad",
  "IPad",
  "Admin",
  "HarmonyOS",
];
const since = (ms: number) =>
  new Date(ms).toLocaleString("en-GB", { dateStyle: "short", timeStyle: "short" });
const REFRESH_MS = 5000;
const USERS_MAX = 200;

interface Session {
  platform: string;
  platformID: number;
  deviceID: string;
  connectedTime: number;
  address?: string;
}

interface OnlineUsers {
  sessionsTotal: number;
  users: { userID: string; sessions: Session[] }[];
}

export function Online({ api }: { api: Api }) {
  const [platform, setPlatform] = useState(0);
  const [online, setOnline] = useState<OnlineUsers | null>(null);
  const [note, setNote] = useState("");
  const [problem, setProblem] = useState("");
  const [round, setRound] = useState(0);

  useEffect(() => {
    let isOver = false;
    let timer: ReturnType<typeof setTimeout>;
    const ask = async () => {
      try {
        const found = await api.call<OnlineUsers>("/user/get_online_users", { platform, limit: USERS_MAX });
        if (isOver) return;
        setOnline(found);
        setProblem("");
      } catch (error) {
        if (!isOver) setProblem(explain(error));
      }
      if (!isOver) timer = setTimeout(ask, REFRESH_MS);
    };
    ask();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [api, platform, round]);

  const logOut = async (user: string, session: Session) => {
    if (!confirm(`Log ${user} out on ${session.platform}? Its tokens for it become invalid.`)) return;
    try {
      await api.call("/auth/force_logout", { platform: session.platformID, fromUserID: user });
      setNote(`${user} is logged out on ${session.platform}.`);
    } catch (error) {
      setNote(explain(error));
    }
    setRound((round) => round + 1);
  };

  const users = [...(online?.users ?? [])].sort((a, b) => a.userID.localeCompare(b.userID));
  return (
    <section class="panel" aria-labelledby="online">
      <h2 id="online">Online</h2>
      <div class="line">
        <label>
          Platform{" "}
          <select value={platform} onChange={(event) => setPlatform(Number(event.currentTarget.value))}>
            <option value={0}>All</option>
            {PLATFORMS.map((name, index) => (
              <option key={name} value={index + 1}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <p class="hint">
          {online === null ? "" : `${online.sessionsTotal} sessions in all`}
          {users.length === USERS_MAX ? `; the first ${USERS_MAX} users are shown` : ""}
        </p>
      </div>
      <p role="status">{note}</p>
      <p class="problem" role="status">
        {problem}
      </p>
      {online !== null && users.length === 0 && <p class="empty">Nobody is online here.</p>}
      {users.length > 0 && (
        <table>
          <thead>
            <tr>
              <th>User</th>
              <th>Platform</th>
              <th>Since</th>
              <th>From</th>
              <th>
                <span class="unseen">Actions</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {users.flatMap(({ userID, sessions }) =>
              sessions.map((session) => (
                <tr key={`${userID} ${session.platform} ${session.deviceID}`}>
                  <td>{userID}</td>
                  <td>
                    {session.platform} {session.deviceID}
                  </td>
                  <td>{since(session.connectedTime)}</td>
                  <td>{session.address ?? ""}</td>
                  <td>
                    <button type="button" class="plain" onClick={() => logOut(userID, session)}>
                      Log out
                    </button>
                  </td>
                </tr>
              )),
            )}
          </tbody>
        </table>
      )}
    </section>
  );
}
