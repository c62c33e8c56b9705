/**
 * What `tracing` makes of calls and watches, against a service of its own that fails as told: prints
 * one JSON object, the spans in the order in which they ended and what the service was told of them.
 * It holds no expectation: see tests/clients/test_typescript_tracing.py.
 */
import { context, propagation, trace, type Span } from "@opentelemetry/api";
import { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-node";
import { Code, ConnectError, createRouterTransport, type HandlerContext } from "@connectrpc/connect";
import { Client, defaultRetry, session } from "@bridle/client";
import { tracing } from "@bridle/client/tracing";
import { SessionService, type WatchRequest } from "@bridle/client/v1";

const exporter = new InMemorySpanExporter();
const told: (string | null)[] = [];
let calls = 0;

/** Every third call succeeds; a watch whose slug is "endless" goes on, others end at their third. */
const service = {
  getSession(_: unknown, { requestHeader }: HandlerContext) {
    told.push(requestHeader.get("traceparent"));
    if (++calls % 3 !== 0) throw new ConnectError("away", Code.Unavailable);
    return {};
  },
  async *watch(request: WatchRequest, { requestHeader }: HandlerContext) {
    told.push(requestHeader.get("traceparent"));
    const ended = ++calls % 3 === 0;
    const progress = { sessionId: "s", logId: "l", ended };
    yield { response: { case: "progress" as const, value: progress } };
    if (request.targets[0]?.session?.ref.value === "endless") await new Promise(() => undefined);
    if (!ended) throw new ConnectError("away", Code.Unavailable);
  },
};

async function main(): Promise<void> {
  const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  provider.register();
  const retry = { ...defaultRetry, first: 1, most: 1 };
  const client = new Client({ token: "t", retry, interceptors: [tracing()] }, (interceptors) =>
    createRouterTransport((router) => void router.service(SessionService, service), { transport: { interceptors } }),
  );
  const caller = trace.getTracer("caller").startSpan("caller");
  const inside = trace.setSpan(context.active(), caller);
  const headers: Record<string, string> = {};
  propagation.inject(inside, headers);
  const targets = [{ session: session("s") }];

  await context.with(inside, () => client.sessions.getSession({}));
  await client.sessions.getSession({}, { headers });
  await context.with(inside, async () => {
    for await (const _ of client.watch({ targets }));
  });
  for await (const _ of client.watch({ targets }, { headers }));
  for await (const _ of client.watch({ targets: [{ session: session("endless") }] }, { headers }).updates()) break;

  const shown = exporter.getFinishedSpans().map((span) => ({
    name: span.name,
    id: span.spanContext().spanId,
    parent: span.parentSpanContext?.spanId,
    code: span.attributes["rpc.response.status_code"],
    failed: span.status.code === 2,
  }));
  console.log(JSON.stringify({ caller: id(caller), spans: shown, told }));
}

function id(span: Span): string {
  return span.spanContext().spanId;
}

void main().then(() => process.exit(0));
