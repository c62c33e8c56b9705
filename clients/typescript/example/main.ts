/**
 * The example: start a session, watch it, send, interrupt, stop.
 *
 *     BRIDLE_TOKEN=… npm run example
 */
import { content, session } from "@bridle/client";
import { connectFromEnvironment } from "@bridle/client/node";
import { tracing } from "@bridle/client/tracing";
import { EndReason, StopReason, WatchUntil } from "@bridle/client/v1";

import { traced } from "./traces.js";

async function main(): Promise<void> {
  const client = connectFromEnvironment({ interceptors: [tracing()] });
  const { session: started } = await client.sessions.startSession({
    slug: `example-ts-${process.pid}`,
    agent: "shell",
    prompt: content("echo hello from TypeScript"),
  });
  const ref = session.byId(started?.sessionId ?? "");

  for await (const { turn, kind } of client.watch({ targets: [{ session: ref }], until: WatchUntil.RUN_END })) {
    switch (kind.case) {
      case "toolCallOutput":
        if (kind.value.output.case === "text") process.stdout.write(`turn ${turn} says: ${kind.value.output.value}`);
        break;
      case "toolCallStarted": // `sleep 60` is on
        if (turn === 2n) await client.sessions.interrupt({ session: ref });
        break;
      case "turnEnded":
        console.log(`turn ${turn} ended: ${StopReason[kind.value.stopReason]}`);
        if (turn === 1n) await client.sessions.send({ session: ref, content: content("sleep 60") });
        else await client.sessions.stop({ session: ref });
        break;
      case "sessionEnded":
        console.log(`the session ended: ${EndReason[kind.value.reason]}`);
    }
  }
  client.close();
}

await traced(main);
