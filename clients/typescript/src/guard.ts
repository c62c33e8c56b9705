/** What stands before every call: the token, the request id, and further tries. */
import { clone, type DescMessage, type Message } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import { Code, ConnectError, type Interceptor, type UnaryRequest } from "@connectrpc/connect";

import type { TokenSource } from "./client.js";
import { failureOf } from "./errors.js";
import { delay, isLost, mayRetry, pause, type Retry } from "./retry.js";
import { uuid7 } from "./ids.js";

/** The interceptor of every transport that a client uses. */
export function guard(token: TokenSource, retry: Retry): Interceptor {
  // Control has answered here, so that a lost connection is no wrong address.
  let known = false;
  return (next) => async (request) => {
    if (request.stream) {
      request.header.set("authorization", `Bearer ${await token()}`);
      return next(request);
    }
    const message = withRequestId(request.method.input, request.message);
    const patience = Date.now() + retry.patience;
    for (let attempt = 1; ; attempt++) {
      const sent = await token();
      // Each try has headers of its own: interceptors below add what belongs to it alone.
      const header = new Headers(request.header);
      header.set("authorization", `Bearer ${sent}`);
      try {
        const answer = await limited({ ...request, message, header }, retry.attemptTimeout, next as (r: UnaryRequest) => ReturnType<typeof next>);
        known = true;
        return answer;
      } catch (error) {
        if (failureOf(error) !== undefined) known = true;
        if (request.signal.aborted) throw error;
        if (await renewed(error, token, sent)) continue;
        const wait = delay(retry, attempt, error);
        const patient = known && isLost(error) && Date.now() + wait < patience;
        if (!mayRetry(error) || (attempt >= retry.attempts && !patient)) throw error;
        await pause(wait, request.signal);
      }
    }
  };
}

/** One try, ended after so many milliseconds: a longer silence is a lost connection. */
async function limited<Response>(
  request: UnaryRequest,
  milliseconds: number,
  next: (request: UnaryRequest) => Promise<Response>,
): Promise<Response> {
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

/** Whether the token was made fresh while the call was under way. */
async function renewed(error: unknown, token: TokenSource, sent: string): Promise<boolean> {
  return ConnectError.from(error).code === Code.Unauthenticated && (await token()) !== sent;
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
