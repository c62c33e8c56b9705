package dev.bridle.interop;

import dev.bridle.Bridle;
import dev.bridle.Update;
import dev.bridle.Watch;
import dev.bridle.v1.GetSessionRequest;
import dev.bridle.v1.GetSessionResponse;
import dev.bridle.v1.SessionServiceGrpc;
import dev.bridle.v1.WatchRequest;
import dev.bridle.v1.WatchResponse;
import dev.bridle.v1.WatchTarget;
import io.grpc.Context;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/**
 * What only Java has: contexts, interrupts, observers, threads. Prints what comes of each, and ends by
 * itself, if nothing keeps it; holds no expectation: see tests/clients/test_java.py.
 */
public final class Edges {
  private Edges() {}

  public static void main(String[] arguments) throws Exception {
    try (Bridle bridle = Bridle.fromEnvironment().connect()) {
      var cancelled = Context.current().withCancellation();
      say("context cancelled", cancelled.call(() -> watched(bridle, () -> cancelled.cancel(null))));
      var timer = Executors.newSingleThreadScheduledExecutor();
      var limited = Context.current().withDeadlineAfter(2, TimeUnit.SECONDS, timer);
      say("context at its deadline", limited.call(() -> watched(bridle, () -> {})));
      timer.shutdownNow();
      Thread reader = Thread.currentThread();
      say("watch interrupted", watched(bridle, reader::interrupt) + " " + Thread.interrupted());
      say("call interrupted", called(bridle, reader::interrupt) + " " + Thread.interrupted());
      observe(bridle);
    }
    noToken();
    threads();
  }

  /** Reads a watch that has one answer and no other; how it ends, when this happens after it. */
  private static Status.Code watched(Bridle bridle, Runnable then) {
    var session = WatchTarget.newBuilder().setSession(Bridle.slug("never"));
    try (Watch watch = bridle.watch(WatchRequest.newBuilder().addTargets(session).build())) {
      while (true) {
        Update update = watch.next();
        if (update instanceof Update.Disconnected) {
          return Status.Code.OK; // It goes on.
        }
        if (update instanceof Update.Progressed) {
          CompletableFuture.delayedExecutor(100, TimeUnit.MILLISECONDS).execute(then);
        }
      }
    } catch (RuntimeException ended) {
      return Status.fromThrowable(ended).getCode();
    }
  }

  /** A call that is told to come again in a minute; how it ends, when this happens meanwhile. */
  private static Status.Code called(Bridle bridle, Runnable then) {
    CompletableFuture.delayedExecutor(1, TimeUnit.SECONDS).execute(then);
    try {
      bridle.sessions().getSession(get("long"));
      return Status.Code.OK;
    } catch (RuntimeException ended) {
      return Status.fromThrowable(ended).getCode();
    }
  }

  private static void observe(Bridle bridle) {
    var stub = SessionServiceGrpc.newStub(bridle.channel());
    say("observer", Edges.<GetSessionResponse>told(seen -> stub.getSession(get("x"), seen), () -> {}));
    Runnable throwing =
        () -> {
          throw new IllegalStateException("of the observer's own");
        };
    say(
        "observer that throws",
        Edges.<GetSessionResponse>told(seen -> stub.getSession(get("x"), seen), throwing));
  }

  private static void noToken() {
    try (Bridle bridle =
        Bridle.at(System.getenv("BRIDLE_ADDRESS")).token(() -> null).connect()) {
      var stub = SessionServiceGrpc.newStub(bridle.channel());
      say(
          "call without a token",
          Edges.<GetSessionResponse>told(seen -> stub.getSession(get("x"), seen), () -> {}));
      say(
          "stream without a token",
          Edges.<WatchResponse>told(
              seen -> stub.watch(WatchRequest.getDefaultInstance(), seen), () -> {}));
    }
  }

  /** Which threads ask for the token of a call that needs two tries. */
  private static void threads() {
    Set<String> asked = ConcurrentHashMap.newKeySet();
    String token = System.getenv("BRIDLE_TOKEN");
    try (Bridle bridle =
        Bridle.at(System.getenv("BRIDLE_ADDRESS"))
            .token(
                () -> {
                  asked.add(Thread.currentThread().getName());
                  return token;
                })
            .connect()) {
      var stub = SessionServiceGrpc.newStub(bridle.channel());
      Edges.<GetSessionResponse>told(seen -> stub.getSession(get("busy"), seen), () -> {});
    }
    // One thread keeps the time for the whole program.
    say("threads", asked.size() + " " + asked.contains("CompletableFutureDelayScheduler"));
  }

  /** What an observer is told last; it does this with each answer. */
  private static <A> Object told(Consumer<StreamObserver<A>> call, Runnable each) {
    CompletableFuture<Object> end = new CompletableFuture<>();
    try {
      call.accept(
          new StreamObserver<>() {
            @Override
            public void onNext(A answer) {
              each.run();
            }

            @Override
            public void onError(Throwable failed) {
              end.complete(Status.fromThrowable(failed).getCode());
            }

            @Override
            public void onCompleted() {
              end.complete("completed");
            }
          });
    } catch (RuntimeException thrown) {
      return "thrown at the caller: " + thrown;
    }
    return end.orTimeout(10, TimeUnit.SECONDS).exceptionally(late -> "never").join();
  }

  private static GetSessionRequest get(String slug) {
    return GetSessionRequest.newBuilder().setSession(Bridle.slug(slug)).build();
  }

  private static void say(String what, Object came) {
    System.out.println(what + ": " + came);
  }
}
