/** What stands before every call: the token, the request id, and further tries. */
import { clone, isMessage, type DescMessage, type Message } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import { DurationSchema, durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type Interceptor, type UnaryRequest, type UnaryResponse } from "@connectrpc/connect";

import { failureOf } from "./errors.js";
import { uuid7 } from "./ids.js";
import { reasonFor, type Life } from "./life.js";
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
        request.header.set("authorization", `Bearer ${await token()}`);
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
      throw open.signal.aborted ? reasonFor(open.signal, error) : error;
    }
  };
}

type Next = (request: UnaryRequest) => Promise<UnaryResponse>;

/** A unary call and all of its tries. */
async function tried(
  request: UnaryRequest, token: TokenSource, retry: Retry, next: Next, control: Control,
): Promise<UnaryResponse> {
  const message = withRequestId(request.method.input, request.message);
  const asked = waitOf(message);
  const longest = retry.attemptTimeout + asked;
  const patience = Date.now() + retry.patience + asked;
  for (let attempt = 1; ; attempt++) {
    const sent = await token();
    // Each try has headers of its own: interceptors below add what belongs to it alone.
    const header = new Headers(request.header);
    header.set("authorization", `Bearer ${sent}`);
    try {
      const answer = await limited({ ...request, message, header }, longest, next);
      control.known = true;
      return answer;
    } catch (error) {
      if (failureOf(error) !== undefined) control.known = true;
      if (request.signal.aborted) throw error;
      if (attempt < retry.attempts && (await renewed(error, token, sent))) continue;
      const wait = delay(retry, attempt, error);
      const patient = control.known && isLost(error) && Date.now() + wait < patience;
      if (!mayRetry(error) || (attempt >= retry.attempts && !patient)) throw error;
      await pause(wait, request.signal);
    }
  }
}

/** One try, ended after so many milliseconds: a longer silence is a lost connection. */
async function limited(request: UnaryRequest, milliseconds: number, next: Next): Promise<UnaryResponse> {
  const own = AbortSignal.timeout(milliseconds);
  try {
    return await next({ ...request, signal: AbortSignal.any([request.signal, own]) });
  } catch (error) {
    if (own.aborted && !request.signal.aborted) {
      throw new ConnectError("no answer in time", Code.DeadlineExceeded, undefined, undefined, error);
    }
    throw error;
  }
}

async function* until<T>(messages: AsyncIterable<T>, done: () => void): AsyncGenerator<T, void, undefined> {
  try {
    yield* messages;
  } finally {
    done();
  }
}

/** Milliseconds that a request asks control to wait before it answers. */
function waitOf(message: Message): number {
  const wait = "wait" in message ? message.wait : undefined;
  return isMessage(wait, DurationSchema) ? durationMs(wait) : 0;
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
