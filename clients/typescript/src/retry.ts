/** When a call is made again, and after how long. */
import { Code, ConnectError } from "@connectrpc/connect";

import { ErrorReason } from "./gen/bridle/v1/error_reason_pb.js";
import { failureOf } from "./errors.js";
import { reasonFor } from "./life.js";

/**
 * How often, and for how long, a unary call is tried. Only what is safe is tried again: a lost
 * connection or a deadline of one try, because a request that changes something carries its request
 * id, and reads change nothing; and the reasons by which control says that a later try may succeed.
 * Times are milliseconds.
 */
export interface Retry {
  /** Tries in all; but see patience. */
  readonly attempts: number;
  /** The longest that one try may take. A verb answers within 5 s. */
  readonly attemptTimeout: number;
  /** The waits between tries: each twice the last, half of it by chance. */
  readonly first: number;
  readonly most: number;
  /**
   * How long a call waits, whatever its tries, for a control that has answered before and is lost,
   * beside the wait that its request asks for; a watch that begins waits as long. The call's own
   * deadline goes first.
   */
  readonly patience: number;
}

export const defaultRetry: Retry = { attempts: 5, attemptTimeout: 10_000, first: 100, most: 5_000, patience: 30_000 };

// Not HOST_UNREACHABLE: there the interrupt was withdrawn, and the same request id would only be
// told the same again.
const LATER = new Set([ErrorReason.SHUTTING_DOWN, ErrorReason.RATE_LIMITED, ErrorReason.NO_HOST]);
const AGAIN = new Set([ErrorReason.SHUTTING_DOWN, ErrorReason.RATE_LIMITED]);
// (Aborted and Canceled are what the library makes of a connection that was reset. Who cancels a call
// by its own signal is not asked.)
const LOST = new Set([Code.Unavailable, Code.DeadlineExceeded, Code.Aborted, Code.Canceled]);
const BROKEN = new Set([...LOST, Code.Unknown, Code.Internal]);

/** Whether the same request, with the same request id, is safe and worth sending again. */
export function mayRetry(error: unknown): boolean {
  const failure = failureOf(error);
  if (failure !== undefined) return LATER.has(failure.reason);
  return LOST.has(ConnectError.from(error).code) || isNetwork(error);
}

/** Whether it is of the connection, and control's own word none. */
export function isLost(error: unknown): boolean {
  return failureOf(error) === undefined && mayRetry(error);
}

/** Whether a stream that ended so may be opened again from its cursor. */
export function isBroken(error: unknown): boolean {
  const failure = failureOf(error);
  if (failure !== undefined) return AGAIN.has(failure.reason);
  return BROKEN.has(ConnectError.from(error).code) || isNetwork(error);
}

/** A browser's fetch tells a connection that could not be had, or broke, by a TypeError. */
function isNetwork(error: unknown): boolean {
  const cause = error instanceof ConnectError ? error.cause : error;
  return cause instanceof TypeError;
}

/** Milliseconds before the try that follows failure number `attempt`, from 1. */
export function delay(retry: Retry, attempt: number, error: unknown): number {
  const whole = Math.min(retry.most, retry.first * 2 ** Math.min(attempt - 1, 16));
  const wished = failureOf(error)?.retryAfter ?? 0;
  // Jitter on top of the server's wish too: it tells every client the same.
  return Math.max(whole * (0.5 + Math.random() / 2), wished * (1 + Math.random() / 10));
}

/** Resolves after so many milliseconds; rejects as soon as the signal is aborted. */
export function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal === undefined ? new ConnectError("cancelled", Code.Canceled) : reasonFor(signal));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}
