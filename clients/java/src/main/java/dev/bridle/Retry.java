package dev.bridle;

import dev.bridle.v1.ErrorReason;
import io.grpc.Status;
import java.time.Duration;
import java.util.EnumSet;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;

/**
 * How often, and for how long, a unary call is tried.
 *
 * <p>Only what is safe is tried again: a lost connection or a deadline of one try, because a request
 * that changes something carries its request id, and reads change nothing; and the reasons by which
 * control says that a later try may succeed.
 *
 * @param attempts tries in all; but see {@code patience}
 * @param attemptTimeout the longest that one try may take; a verb answers within 5 s
 * @param first the first wait between tries: each is twice the last, half of it by chance
 * @param most the longest wait
 * @param patience how long a call waits, whatever its tries, for a control that has answered before
 *     and is lost, beside the wait that its request asks for; a watch that begins waits as long. The
 *     call's own deadline goes first
 */
public record Retry(
    int attempts, Duration attemptTimeout, Duration first, Duration most, Duration patience) {
  /** What a client uses that was told nothing else. */
  public static final Retry DEFAULT =
      new Retry(
          5,
          Duration.ofSeconds(10),
          Duration.ofMillis(100),
          Duration.ofSeconds(5),
          Duration.ofSeconds(30));

  // Not HOST_UNREACHABLE: there the interrupt was withdrawn, and the same request id would only be
  // told the same again.
  private static final Set<ErrorReason> LATER =
      EnumSet.of(
          ErrorReason.ERROR_REASON_SHUTTING_DOWN,
          ErrorReason.ERROR_REASON_RATE_LIMITED,
          ErrorReason.ERROR_REASON_NO_HOST);

  private static final Set<ErrorReason> AGAIN =
      EnumSet.of(ErrorReason.ERROR_REASON_SHUTTING_DOWN, ErrorReason.ERROR_REASON_RATE_LIMITED);

  private static final Set<Status.Code> LOST =
      EnumSet.of(Status.Code.UNAVAILABLE, Status.Code.DEADLINE_EXCEEDED);

  private static final Set<Status.Code> BROKEN =
      EnumSet.of(
          Status.Code.CANCELLED,
          Status.Code.UNKNOWN,
          Status.Code.DEADLINE_EXCEEDED,
          Status.Code.INTERNAL,
          Status.Code.UNAVAILABLE);

  /** Whether the same request, with the same request id, is safe and worth sending again. */
  static boolean mayRetry(Throwable error) {
    Optional<Failure> failure = Failure.of(error);
    return failure
        .map(said -> LATER.contains(said.reason()))
        .orElseGet(() -> LOST.contains(Status.fromThrowable(error).getCode()));
  }

  /** Whether it is of the connection, and control's own word none. */
  static boolean isLost(Throwable error) {
    return Failure.of(error).isEmpty() && mayRetry(error);
  }

  /** Whether a stream that ended so may be opened again from its cursor. */
  static boolean isBroken(Throwable error) {
    Optional<Failure> failure = Failure.of(error);
    return failure
        .map(said -> AGAIN.contains(said.reason()))
        .orElseGet(() -> BROKEN.contains(Status.fromThrowable(error).getCode()));
  }

  /** The wait before the try that follows failure number {@code attempt}, from 1. */
  Duration delay(int attempt, Throwable error) {
    long whole = Math.min(most.toMillis(), first.toMillis() << Math.min(attempt - 1, 16));
    ThreadLocalRandom chance = ThreadLocalRandom.current();
    double wait = whole * (0.5 + chance.nextDouble() / 2);
    // Jitter on top of the server's wish too: it tells every client the same.
    double wished = Failure.of(error).map(said -> said.retryAfter().toMillis()).orElse(0L);
    return Duration.ofMillis((long) Math.max(wait, wished * (1 + chance.nextDouble() / 10)));
  }
}
