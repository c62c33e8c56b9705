/** What control says about a call that failed. */
import { ConnectError, Code } from "@connectrpc/connect";
import { durationMs } from "@bufbuild/protobuf/wkt";

import { ErrorReason } from "./gen/bridle/v1/error_reason_pb.js";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "./gen/google/rpc/error_details_pb.js";

/** The domain of every ErrorInfo of Bridle. */
const DOMAIN = "bridle.v1";

/** A failure of Bridle's own. Branch on the reason, never on the text. */
export interface Failure {
  readonly code: Code;
  /** UNSPECIFIED for one that this release doesn't know; `name` has it then. */
  readonly reason: ErrorReason;
  /** The reason's name without its prefix: "SESSION_NOT_FOUND". */
  readonly name: string;
  readonly message: string;
  /** What the reason's comment in error_reason.proto names. */
  readonly metadata: Readonly<Record<string, string>>;
  /** What is wrong with the request: the path ("session.slug"), a line for people. */
  readonly fields: readonly { field: string; description: string }[];
  /** The wait before the next try that control asks for, milliseconds; 0 where it doesn't. */
  readonly retryAfter: number;
}

/** What control said; undefined where the failure is not Bridle's own: a lost connection, a deadline. */
export function failureOf(error: unknown): Failure | undefined {
  if (!(error instanceof ConnectError)) return undefined;
  const info = error.findDetails(ErrorInfoSchema).find((detail) => detail.domain === DOMAIN);
  if (info === undefined) return undefined;
  const [wait] = error.findDetails(RetryInfoSchema);
  return {
    code: error.code,
    reason: ErrorReason[info.reason as keyof typeof ErrorReason] ?? ErrorReason.UNSPECIFIED,
    name: info.reason,
    message: error.rawMessage,
    metadata: info.metadata,
    fields: error.findDetails(BadRequestSchema).flatMap((detail) => detail.fieldViolations),
    retryAfter: wait?.retryDelay === undefined ? 0 : durationMs(wait.retryDelay),
  };
}

/** The reason of a failure; UNSPECIFIED where it is not one of Bridle's own. */
export function reasonOf(error: unknown): ErrorReason {
  return failureOf(error)?.reason ?? ErrorReason.UNSPECIFIED;
}
