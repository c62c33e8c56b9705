/** The runner in a page: orders come as server-sent events from where the page came, answers go back. */
import { connect } from "@bridle/client/web";
import { tracing } from "@bridle/client/tracing";

import { Runner } from "./runner.js";

const waiting: string[] = [];
let sending = false;

/** One request at a time keeps the answers in order. */
async function flush(): Promise<void> {
  if (sending) return;
  sending = true;
  while (waiting.length > 0) {
    const lines = waiting.splice(0);
    await fetch("/said", { method: "POST", body: lines.join("\n") });
  }
  sending = false;
}

const runner = new Runner(
  (line) => {
    waiting.push(line);
    void flush();
  },
  ({ address, token, transport }) =>
    connect(address, {
      token,
      protocol: transport === "grpc-web" ? "grpc-web" : "connect",
      interceptors: [tracing()],
    }),
);
new EventSource("/orders").onmessage = ({ data }) => runner.take(data as string);
