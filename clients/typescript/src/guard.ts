/** What stands before every call: the token, the request id, and further tries. */
import { clone, isMessage, type DescMessage, type Message } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import { DurationSchema, durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type Interceptor, type UnaryRequest, type UnaryResponse } from "@connectrpc/connect";

import { failureOf } from "./errors.js";
import { uuid7 } from "./ids.js";
import { raced, reasonFor, type Life } from "./life.js";
import { delay, isLost, mayRetry, pause, type Retry } from "./retry.js";
import { renewed, type TokenSource } from "./token.js";

/** Whether control has answered here, so that a lost connection is no wrong address. */
export interface Control {
  known: boolean;
}

/** The interceptor of every transport that a client uses. */
export function guard(token: TokenSource, retry: Retry, life: Life, control: Control): Interceptor {
  return (next) => async (request) => {
    const open = life.begin();
    const signal = AbortSignal.any([request.signal, open.signal]);
    try {
      if (request.stream) {
        request.header.set("authorization", `Bearer ${await raced(token(), signal)}`);
        const answer = await next({ ...request, signal });
        control.known = true;
        // It is open for as long as somebody reads, or until who has enough aborts it.
        request.signal.addEventListener("abort", () => life.done(open), { once: true });
        return answer.stream ? { ...answer, message: until(answer.message, () => life.done(open)) } : answer;
      }
      const answer = await tried({ ...request, signal }, token, retry, next as Next, control);
      life.done(open);
      return answer;
    } catch (error) {
      life.done(open);
      if (failureOf(error) !== undefined) control.known = true;
      throw open.signal.aborted ? reasonFor(open.signal, error) : error;
    }
  };
}

/** What tells control how long a call may take: Connect, gRPC. */
const CONNECT_TIMEOUT = "connect-timeout-ms";
const GRPC_TIMEOUT = "grpc-timeout";
/** A longer timer would go off at once. */
const LONGEST_TIMER = 2 ** 31 - 1;

type Next = (request: UnaryRequest) => Promise<UnaryResponse>;

/** A unary call and all of its tries. */
async function tried(
  request: UnaryRequest, token: TokenSource, retry: Retry, next: Next, control: Control,
): Promise<UnaryResponse> {
  const message = withRequestId(request.method.input, request.message);
  const asked = waitOf(message);
  const longest = retry.attemptTimeout + asked;
  const patience = Date.now() + retry.patience + asked;
  const deadline = deadlineOf(request.header);
  const ask = () => raced(token(), request.signal);
  for (let attempt = 1; ; attempt++) {
    const sent = await ask();
    // Each try has headers of its own: interceptors below add what belongs to it alone.
    const header = new Headers(request.header);
    header.set("authorization", `Bearer ${sent}`);
    tell(header, deadline);
    try {
      const answer = await limited({ ...request, message, header }, longest, next);
      control.known = true;
      return answer;
    } catch (error) {
      if (failureOf(error) !== undefined) control.known = true;
      if (request.signal.aborted) throw error;
      if (attempt < retry.attempts && (await renewed(error, ask, sent))) continue;
      const wait = delay(retry, attempt, error);
      const patient = control.known && isLost(error) && Date.now() + wait < patience;
      if (!mayRetry(error) || (attempt >= retry.attempts && !patient)) throw error;
      if (Date.now() + wait >= deadline) throw error; // It tells more than that the time is over.
      await pause(wait, request.signal);
    }
  }
}

/** One try, ended after so many milliseconds: a longer silence is a lost connection. */
async function limited(request: UnaryRequest, milliseconds: number, next: Next): Promise<UnaryResponse> {
  const own = new AbortController();
  const clock = setTimeout(() => own.abort(), Math.min(milliseconds, LONGEST_TIMER));
  try {
    return await next({ ...request, signal: AbortSignal.any([request.signal, own.signal]) });
  } catch (error) {
    if (own.signal.aborted && !request.signal.aborted) {
      throw new ConnectError("no answer in time", Code.DeadlineExceeded, undefined, undefined, error);
    }
    throw error;
  } finally {
    clearTimeout(clock);
  }
}

/** When the call has to be over, as Date.now() tells it; Infinity where its caller sets no limit. */
function deadlineOf(header: Headers): number {
  const limit = /^(\d+(?:\.\d+)?)m?$/.exec(header.get(CONNECT_TIMEOUT) ?? header.get(GRPC_TIMEOUT) ?? "")?.[1];
  return limit === undefined ? Infinity : Date.now() + Number(limit);
}

/** Tells control what is left until then: the library tells each try the whole. */
function tell(header: Headers, deadline: number): void {
  if (deadline === Infinity) return;
  const left = Math.max(1, Math.ceil(deadline - Date.now()));
  if (header.has(CONNECT_TIMEOUT)) header.set(CONNECT_TIMEOUT, `${left}`);
  if (header.has(GRPC_TIMEOUT)) header.set(GRPC_TIMEOUT, `${left}m`);
}

async function* until<T>(messages: AsyncIterable<T>, done: () => void): AsyncGenerator<T, void, undefined> {
  try {
    yield* messages;
  } finally {
    done();
  }
}

/** Milliseconds that a request asks control to wait before it answers. (Of less than none control tells.) */
function waitOf(message: Message): number {
  const wait = "wait" in message ? message.wait : undefined;
  return isMessage(wait, DurationSchema) ? Math.max(0, durationMs(wait)) : 0;
}

/**
 * Gives a request that changes something an id, one for all tries. The caller's own message is left
 * as it is, so that it may be used for another request.
 */
function withRequestId(schema: DescMessage, message: Message): Message {
  const field = schema.field.requestId;
  // In a oneof (of GetCommand) it is what is asked for, and none of the request's own.
  if (field === undefined || field.fieldKind !== "scalar" || field.oneof !== undefined) return message;
  if (reflect(schema, message).get(field) !== "") return message;
  const whole = clone(schema, message);
  reflect(schema, whole).set(field, uuid7());
  return whole;
}
