/**
 * Leaves watches in every way that there is, and then the process: nothing may keep it.
 *
 *     BRIDLE_TOKEN=… node leaving.mjs SLUG
 */
import { session, type Update } from "@bridle/client";
import { connectFromEnvironment } from "@bridle/client/node";

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
