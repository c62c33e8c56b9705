/**
 * Leaves watches in every way that there is, calls that wait for their token, clients that are
 * closed, and then the process: nothing may keep it.
 *
 *     BRIDLE_TOKEN=… node leaving.mjs SLUG
 */
import { once } from "node:events";
import { createConnection, createServer, type AddressInfo } from "node:net";
import { Code, ConnectError } from "@connectrpc/connect";
import { session, type Update } from "@bridle/client";
import { connect, connectFromEnvironment } from "@bridle/client/node";

process.on("unhandledRejection", (error) => {
  console.log("unhandled:", error);
  process.exitCode = 1;
});

const client = connectFromEnvironment();
const request = { targets: [{ session: session(process.argv[2] ?? "") }] };

/** A watch that has told all there is, and what comes of waiting for more. */
async function waiting() {
  const updates = client.watch(request).updates();
  for (let seen: Update | void = undefined; seen?.kind !== "progress"; ) seen = (await updates.next()).value;
  for (;;) {
    const next = updates.next();
    const came = await Promise.race([next, new Promise<undefined>((done) => setTimeout(done, 500, undefined))]);
    if (came === undefined) return { updates, next };
  }
}

const returned = await waiting();
console.log("returned:", (await returned.updates.return()).done, (await returned.next).done);

const thrown = await waiting();
const mine = new Error("mine");
console.log("threw mine:", (await thrown.updates.throw(mine).catch((error: unknown) => error)) === mine, (await thrown.next).done);

for await (const event of client.watch(request)) {
  console.log("left at:", String(event.sequence));
  break;
}

const stop = new AbortController();
const events = client.watch(request, { signal: stop.signal })[Symbol.asyncIterator]();
await events.next();
setTimeout(() => stop.abort(), 10);
let ended = "not at all";
try {
  while (!(await events.next()).done);
} catch (error) {
  ended = String(error);
}
console.log("aborted:", ended);
client.close();

/** How a call ended. */
async function end(call: Promise<unknown>): Promise<string> {
  return call.then(() => "answered", (error: unknown) => Code[ConnectError.from(error).code] ?? "");
}

const never = connect("127.0.0.1:1", { token: () => new Promise(() => undefined) });
console.log("no token:", await end(never.sessions.getSession({}, { timeoutMs: 10 })));
const unbegun = never.watch(request).updates();
const first = unbegun.next();
console.log("no token, returned:", (await unbegun.return()).done, (await first).done);
const closing = [end(never.sessions.getSession({})), end(never.watch(request).updates().next())];
never.close();
console.log("no token, closed:", ...(await Promise.all(closing)));

let connections = 0;
const server = createServer((socket) => {
  connections++;
  socket.destroy();
}).listen(0, "127.0.0.1");
await once(server, "listening");
const { port } = server.address() as AddressInfo;
const closed = connect(`127.0.0.1:${port}`, { token: "t" });
closed.close();
console.log("closed:", await end(closed.sessions.getSession({})), await end(closed.watch(request).updates().next()));
// Whoever came before this one was counted before it.
await once(createConnection(port, "127.0.0.1"), "close");
console.log("connections:", connections);
server.close();
