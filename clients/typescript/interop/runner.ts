/**
 * The runner of the interoperability suite: does with this client what it is told, one JSON object a
 * line, and answers with such lines; see tests/clients/README.md for the words. It holds no
 * expectation: those stand in the suite, once for all languages.
 */
import {
  createRegistry,
  fromBinary,
  fromJson,
  toBinary,
  toJson,
  type DescMessage,
  type DescMethod,
  type JsonValue,
  type Message,
} from "@bufbuild/protobuf";
import { base64Decode, base64Encode } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Client } from "@bridle/client";
import { failureOf } from "@bridle/client";
import { EventSchema, HostService, IdentityService, SessionService } from "@bridle/client/v1";
import { CompactedSchema, LiveTextSchema, ProgressSchema, WatchRequestSchema } from "@bridle/client/v1";

/** One line of the suite. */
export interface Order {
  id: string;
  op: "dial" | "close" | "call" | "stream" | "watch" | "cancel";
  client: string;
  address: string;
  token: string;
  token_file?: string;
  authority?: string;
  environment?: boolean;
  transport?: "grpc" | "connect" | "grpc-web";
  service: string;
  method: string;
  request?: JsonValue;
  request_bytes?: string;
  answer_bytes?: boolean;
  metadata?: Record<string, string>;
  /** Seconds. */
  timeout?: number;
  target?: string;
}

const services = createRegistry(SessionService, HostService, IdentityService);

export class Runner {
  readonly #clients = new Map<string, Client>();
  readonly #running = new Map<string, AbortController>();

  constructor(
    private readonly say: (line: string) => void,
    private readonly dial: (order: Order) => Client,
  ) {}

  take(line: string): void {
    const order = JSON.parse(line) as Order;
    switch (order.op) {
      case "dial":
        try {
          this.#clients.set(order.client, this.dial(order));
          this.#answer(order, { done: true });
        } catch (error) {
          this.#answer(order, { refused: String(error) });
        }
        break;
      case "close":
        this.#clients.get(order.client)?.close();
        this.#answer(order, { done: true });
        break;
      case "cancel":
        this.#running.get(order.target ?? "")?.abort();
        this.#answer(order, { done: true });
        break;
      default:
        void this.#work(order);
    }
  }

  #answer(order: Order, what: Record<string, JsonValue>): void {
    this.say(JSON.stringify({ id: order.id, ...what }));
  }

  async #work(order: Order): Promise<void> {
    const client = this.#clients.get(order.client);
    const stop = new AbortController();
    this.#running.set(order.id, stop);
    try {
      if (client === undefined) throw new Error("no such client");
      if (order.op === "watch") await this.#watch(client, order, stop.signal);
      else await this.#call(client, order, stop.signal);
    } catch (error) {
      this.#answer(order, { error: failure(error) });
    } finally {
      this.#running.delete(order.id);
    }
  }

  async #watch(client: Client, order: Order, signal: AbortSignal): Promise<void> {
    const request = fromJson(WatchRequestSchema, order.request ?? {});
    const headers = order.metadata ?? {};
    const watch = client.watch(request, { signal, headers });
    for await (const update of watch.updates()) {
      switch (update.kind) {
        case "event": {
          const cursor = Number(watch.cursors[0]?.start.value);
          this.#answer(order, { event: toJson(EventSchema, update.event), session: update.sessionId, cursor });
          break;
        }
        case "progress":
          this.#answer(order, { progress: toJson(ProgressSchema, update.progress) });
          break;
        case "compacted":
          this.#answer(order, { compacted: toJson(CompactedSchema, update.compacted) });
          break;
        case "liveText":
          this.#answer(order, { live_text: toJson(LiveTextSchema, update.liveText) });
          break;
        case "connected":
          this.#answer(order, { connected: true });
          break;
        case "disconnected":
          this.#answer(order, { disconnected: failure(update.error) });
      }
    }
    this.#answer(order, { end: true });
  }

  async #call(client: Client, order: Order, signal: AbortSignal): Promise<void> {
    const method = services
      .getService(order.service)
      ?.methods.find((each) => each.name === order.method) as DescMethod | undefined;
    if (method === undefined) throw new Error(`no such method: ${order.service}/${order.method}`);
    const request =
      order.request_bytes === undefined
        ? fromJson(method.input, order.request ?? {})
        : fromBinary(method.input, base64Decode(order.request_bytes));
    const timeout = order.timeout === undefined ? undefined : order.timeout * 1000;
    const header = order.metadata ?? {};
    if (method.methodKind === "unary") {
      const { message } = await client.transport.unary(
        method as DescMethod & { methodKind: "unary" }, signal, timeout, header, request,
      );
      this.#answer(order, { response: shown(order, method.output, message) });
      return;
    }
    const answers = await client.transport.stream(
      method as DescMethod & { methodKind: "server_streaming" }, signal, timeout, header, one(request),
    );
    for await (const message of answers.message) {
      this.#answer(order, { message: shown(order, method.output, message) });
    }
    this.#answer(order, { end: true });
  }
}

async function* one<T>(item: T): AsyncIterable<T> {
  yield item;
}

function shown(order: Order, schema: DescMessage, message: Message): JsonValue {
  return order.answer_bytes === true ? base64Encode(toBinary(schema, message)) : toJson(schema, message);
}

/** "FailedPrecondition" -> "FAILED_PRECONDITION"; the library spells one code otherwise. */
function codeName(code: Code): string {
  const words = Code[code].replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
  return words === "CANCELED" ? "CANCELLED" : words;
}

function failure(error: unknown): JsonValue {
  const found = failureOf(error);
  if (found === undefined) {
    const { code, rawMessage } = ConnectError.from(error);
    return { code: codeName(code), reason: "", message: rawMessage };
  }
  return {
    code: codeName(found.code),
    reason: found.name,
    message: found.message,
    metadata: { ...found.metadata },
    fields: found.fields.map(({ field }) => field),
    retry_after: found.retryAfter / 1000,
  };
}
