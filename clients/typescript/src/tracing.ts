/**
 * Traces through OpenTelemetry: an interceptor for `connect(…, { interceptors: [tracing()] })`.
 *
 * It needs @opentelemetry/api, which is the caller's to install and to set up; nothing else of this
 * package imports it. Names and attributes are those of OpenTelemetry's conventions for RPC.
 */
import {
  context,
  propagation,
  SpanKind,
  SpanStatusCode,
  trace,
  type Context,
  type Span,
  type Tracer,
} from "@opentelemetry/api";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";

const header = {
  get: (headers: Headers, key: string) => headers.get(key) ?? undefined,
  set: (headers: Headers, key: string, value: string) => headers.set(key, value),
  keys: (headers: Headers) => [...headers.keys()],
};

/**
 * Makes a span for each try of a call and each connection of a watch, below the caller's, and hands
 * it on to control.
 *
 * The caller's span is the active one; where there is none, the one that the headers of the call
 * name. In a page that is the way: a context doesn't outlast an `await` there.
 */
export function tracing(tracer: Tracer = trace.getTracer("@bridle/client")): Interceptor {
  return (next) => async (request) => {
    const method = `${request.service.typeName}/${request.method.name}`;
    // (In a page it may be relative to the page's own.)
    const { hostname, port, protocol } = new URL(request.url, globalThis.location?.href);
    const attributes = {
      "rpc.system.name": request.header.has("connect-protocol-version") ? "connectrpc" : "grpc",
      "rpc.method": method,
      "server.address": hostname,
      "server.port": Number(port || (protocol === "https:" ? 443 : 80)),
    };
    const span = tracer.startSpan(method, { kind: SpanKind.CLIENT, attributes }, parent(request.header));
    const inside = trace.setSpan(context.active(), span);
    propagation.inject(inside, request.header, header);
    try {
      const answer = await context.with(inside, next, undefined, request);
      if (answer.stream) return { ...answer, message: ending(answer.message, span, request.signal) };
      end(span);
      return answer;
    } catch (error) {
      end(span, error);
      throw error;
    }
  };
}

function parent(headers: Headers): Context {
  const active = context.active();
  return trace.getSpan(active) === undefined ? propagation.extract(active, headers, header) : active;
}

/** The answers of a stream, at whose end the span ends, however that comes. */
async function* ending<T>(answers: AsyncIterable<T>, span: Span, signal: AbortSignal): AsyncIterable<T> {
  // Who has enough of a stream aborts it, and need not read it to its end.
  const stop = () => end(span, new ConnectError("cancelled", Code.Canceled));
  signal.addEventListener("abort", stop, { once: true });
  try {
    yield* answers;
    end(span);
  } catch (error) {
    end(span, error);
    throw error;
  } finally {
    signal.removeEventListener("abort", stop);
    end(span);
  }
}

/** Ends a span; a second time it does nothing. */
function end(span: Span, error?: unknown): void {
  if (!span.isRecording()) return;
  if (error !== undefined) {
    const code = codeName(ConnectError.from(error).code);
    span.setAttributes({ "rpc.response.status_code": code, "error.type": code });
    span.setStatus({ code: SpanStatusCode.ERROR });
  } else {
    span.setAttribute("rpc.response.status_code", "OK");
  }
  span.end();
}

/** As gRPC writes it: "FAILED_PRECONDITION". */
function codeName(code: Code): string {
  const words = Code[code].replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
  return words === "CANCELED" ? "CANCELLED" : words;
}
