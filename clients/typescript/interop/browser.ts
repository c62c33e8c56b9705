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

/** A page asks where it came from for a token that is kept fresh. */
async function read(file: string): Promise<string> {
  const answer = await fetch(`/token?file=${encodeURIComponent(file)}`);
  if (!answer.ok) throw new Error(`no token: ${answer.status}`);
  return (await answer.text()).trim();
}

const runner = new Runner(
  (line) => {
    waiting.push(line);
    void flush();
  },
  ({ address, token, token_file: file, transport }) =>
    connect(address, {
      token: file === undefined ? token : () => read(file),
      protocol: transport === "grpc-web" ? "grpc-web" : "connect",
      interceptors: [tracing()],
    }),
);
new EventSource("/orders").onmessage = ({ data }) => runner.take(data as string);
