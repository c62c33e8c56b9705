package dev.bridle;

import dev.bridle.v1.SessionServiceGrpc;
import dev.bridle.v1.WatchRequest;
import dev.bridle.v1.WatchResponse;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.TimeUnit;

/** One stream of answers, read with a limit on how long the other side may be silent. */
final class Answers {
  // One answer that was asked for, and the end.
  private final BlockingQueue<Object> waiting = new ArrayBlockingQueue<>(2);
  private final ClientCall<WatchRequest, WatchResponse> call;

  Answers(Channel channel, WatchRequest request) {
    call = channel.newCall(SessionServiceGrpc.getWatchMethod(), CallOptions.DEFAULT);
    call.start(
        new ClientCall.Listener<>() {
          @Override
          public void onMessage(WatchResponse answer) {
            waiting.add(answer);
          }

          @Override
          public void onClose(Status status, Metadata trailers) {
            Status lost =
                status.isOk() ? Status.UNAVAILABLE.withDescription("control broke off") : status;
            waiting.add(lost.asRuntimeException(trailers));
          }
        },
        new Metadata());
    call.sendMessage(request);
    call.halfClose();
  }

  /** The next answer. StatusRuntimeException: the stream is over, or was silent for too long. */
  WatchResponse next(Duration silence) {
    call.request(1);
    Object came;
    try {
      came = waiting.poll(silence.toMillis(), TimeUnit.MILLISECONDS);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      throw Status.CANCELLED.withCause(interrupted).asRuntimeException();
    }
    if (came instanceof WatchResponse answer) {
      return answer;
    }
    if (came instanceof StatusRuntimeException lost) {
      throw lost;
    }
    throw Status.UNAVAILABLE
        .withDescription("nothing from control for " + silence.toSeconds() + " s")
        .asRuntimeException();
  }

  void cancel() {
    call.cancel("done", null);
  }
}
