package dev.bridle;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.Deadline;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;

/**
 * One unary call and all of its tries. Only what comes of the last try reaches the caller.
 *
 * <p>All callbacks of a try come on the call's own executor, one after the other; only what ends it
 * ({@link #cancel}, its context, its client) may come from elsewhere, hence the lock.
 */
final class UnaryCall<Q, A> extends ClientCall<Q, A> {
  // Not the thread that keeps the time between tries: it is one for the whole program.
  private static final Executor ELSEWHERE = new CompletableFuture<Void>().defaultExecutor();

  private final Guard guard;
  private final Retry retry;
  private final MethodDescriptor<Q, A> method;
  private final CallOptions options;
  private final Channel next;
  private final long deadline;
  private long patience;
  // Further tries may begin on another thread; they are the caller's as much as the first.
  private final Context context = Context.current();
  private final Context.CancellationListener ending = at -> end(Contexts.statusFromCancelled(at));

  private Listener<A> listener;
  private Metadata headers;
  private Q request;
  private ClientCall<Q, A> current;
  private Status cancelled;
  private boolean over;

  UnaryCall(
      Guard guard, Retry retry, MethodDescriptor<Q, A> method, CallOptions options, Channel next) {
    this.guard = guard;
    this.retry = retry;
    this.method = method;
    this.options = options;
    this.next = next;
    Deadline given = earliest(options.getDeadline(), Context.current().getDeadline());
    this.deadline = given == null ? Long.MAX_VALUE : given.timeRemaining(TimeUnit.MILLISECONDS) + now();
  }

  private static Deadline earliest(Deadline one, Deadline other) {
    return one == null || other == null ? (one == null ? other : one) : one.minimum(other);
  }

  private static long now() {
    return TimeUnit.NANOSECONDS.toMillis(System.nanoTime());
  }

  @Override
  public void start(Listener<A> listener, Metadata headers) {
    this.listener = listener;
    this.headers = headers;
  }

  @Override
  public void request(int messages) {
    // A unary call has one answer, which is kept until the try is known to have succeeded.
  }

  @Override
  public void sendMessage(Q message) {
    request = Guard.withRequestId(message);
    patience = now() + retry.patience().toMillis() + Guard.waitOf(request).toMillis();
  }

  @Override
  public void halfClose() {
    attempt(1, retry.attemptTimeout().toMillis(), options);
  }

  @Override
  public void cancel(String message, Throwable cause) {
    ClientCall<Q, A> running = end(Status.CANCELLED.withDescription(message).withCause(cause));
    if (running != null) {
      running.cancel(message, cause);
    }
  }

  /** There are to be no more tries. Returns the one that is under way, which tells the end then. */
  ClientCall<Q, A> end(Status status) {
    synchronized (this) {
      cancelled = status;
      if (current != null) {
        return current;
      }
    }
    executor().execute(() -> close(status, new Metadata())); // Between two tries.
    return null;
  }

  /** What fails here would be told to nobody, and the caller would wait for ever. */
  private void attempt(int number, long most, CallOptions options) {
    try {
      begin(number, most, options);
    } catch (RuntimeException failed) {
      Status wanted = ended(); // A try that was cancelled just now can't be begun.
      close(wanted == null ? Status.fromThrowable(failed) : wanted, new Metadata());
    }
  }

  private void begin(int number, long most, CallOptions options) {
    Metadata own = new Metadata();
    own.merge(headers);
    String sent = guard.authorize(own);
    // Control may have been asked to wait, and then to answer.
    long limit = Math.min(most + Guard.waitOf(request).toMillis(), deadline - now());
    ClientCall<Q, A> call = next.newCall(method, options.withDeadlineAfter(limit, TimeUnit.MILLISECONDS));
    synchronized (this) {
      if (cancelled != null) {
        return; // It was closed, or is just now.
      }
      current = call;
    }
    call.start(new Attempt(number, sent), own);
    call.request(2); // More than one would be an error of the server, and is told as such.
    call.sendMessage(request);
    call.halfClose();
  }

  /** What one try leads to. */
  private final class Attempt extends Listener<A> {
    private final int number;
    private final String sent;
    private Metadata answerHeaders = new Metadata();
    private A answer;
    private boolean several;

    Attempt(int number, String sent) {
      this.number = number;
      this.sent = sent;
    }

    @Override
    public void onHeaders(Metadata received) {
      answerHeaders = received;
    }

    @Override
    public void onMessage(A message) {
      several = answer != null;
      answer = message;
    }

    @Override
    public void onClose(Status status, Metadata trailers) {
      try {
        conclude(status, trailers);
      } catch (RuntimeException failed) { // Nor would this be told; as gRPC does it.
        Status taken = Status.CANCELLED.withDescription("the answer can't be taken").withCause(failed);
        close(status.isOk() ? taken : status, trailers);
      }
    }

    private void conclude(Status status, Metadata trailers) {
      if (several) {
        close(Status.INTERNAL.withDescription("more than one answer to a unary call"), trailers);
        return;
      }
      if (status.isOk()) {
        guard.answered();
        listener.onHeaders(answerHeaders);
        if (answer != null) {
          listener.onMessage(answer);
        }
        close(status, trailers);
        return;
      }
      var error = status.asRuntimeException(trailers);
      if (Failure.of(error).isPresent()) {
        guard.answered();
      }
      boolean renewed = number < retry.attempts() && guard.renewed(status, sent);
      long wait = renewed ? 0 : retry.delay(number, error).toMillis();
      long left = patience - now() - wait;
      boolean patient = Retry.isLost(error) && guard.isKnown() && left > 0;
      boolean again =
          renewed || (Retry.mayRetry(error) && (number < retry.attempts() || patient));
      if (!again || now() + wait >= deadline || !pauses()) {
        Status wanted = ended();
        close(wanted == null ? guard.told(status) : wanted, trailers);
        return;
      }
      if (Retry.isLost(error)) {
        guard.lost();
      }
      CompletableFuture.delayedExecutor(wait, TimeUnit.MILLISECONDS, executor())
          .execute(context.wrap(() -> again(patient, left)));
    }

    private void again(boolean patient, long left) {
      resumes();
      long most = retry.attemptTimeout().toMillis();
      if (patient) {
        // While gRPC pauses between its connects every try would fail at once.
        attempt(number + 1, Math.min(most, left), options.withWaitForReady());
      } else {
        attempt(number + 1, most, options);
      }
    }
  }

  private Executor executor() {
    return options.getExecutor() == null ? ELSEWHERE : options.getExecutor();
  }

  /** From now on no try is under way; false where there is to be none any more. */
  private boolean pauses() {
    synchronized (this) {
      current = null;
    }
    guard.pauses(this);
    context.addListener(ending, Runnable::run);
    return ended() == null && !guard.closed();
  }

  private void resumes() {
    context.removeListener(ending);
    guard.resumes(this);
  }

  /** What has ended it, if anything has. */
  private synchronized Status ended() {
    return cancelled;
  }

  /** Tells the caller the end, once. */
  private void close(Status status, Metadata trailers) {
    synchronized (this) {
      if (over) {
        return;
      }
      over = true;
    }
    resumes();
    listener.onClose(status, trailers);
  }
}
