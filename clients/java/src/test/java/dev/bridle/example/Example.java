package dev.bridle.example;

import dev.bridle.Bridle;
import dev.bridle.v1.Event;
import dev.bridle.v1.InterruptRequest;
import dev.bridle.v1.SendRequest;
import dev.bridle.v1.SessionRef;
import dev.bridle.v1.StartSessionRequest;
import dev.bridle.v1.StopRequest;
import dev.bridle.v1.WatchRequest;
import dev.bridle.v1.WatchTarget;
import dev.bridle.v1.WatchUntil;
import io.opentelemetry.instrumentation.grpc.v1_6.GrpcTelemetry;

/** The example: start a session, watch it, send, interrupt, stop. See the README beside. */
public final class Example {
  private Example() {}

  public static void main(String[] arguments) {
    try (Traces traces = new Traces();
        Bridle bridle =
            Bridle.fromEnvironment()
                .interceptors(GrpcTelemetry.create(traces.telemetry).createClientInterceptor())
                .connect()) {
      var start =
          StartSessionRequest.newBuilder()
              .setSlug("example-java-" + ProcessHandle.current().pid())
              .setAgent("shell")
              .addPrompt(Bridle.text("echo hello from Java"))
              .build();
      SessionRef session =
          Bridle.id(bridle.sessions().startSession(start).getSession().getSessionId());
      var request =
          WatchRequest.newBuilder()
              .addTargets(WatchTarget.newBuilder().setSession(session))
              .setUntil(WatchUntil.WATCH_UNTIL_RUN_END)
              .build();
      try (var watch = bridle.watch(request)) {
        for (Event event : watch.events()) {
          react(bridle, session, event);
        }
      }
    }
  }

  private static void react(Bridle bridle, SessionRef session, Event event) {
    long turn = event.getTurn();
    switch (event.getKindCase()) {
      case TOOL_CALL_OUTPUT ->
          System.out.printf("turn %d says: %s", turn, event.getToolCallOutput().getText());
      case TOOL_CALL_STARTED -> {
        if (turn == 2) { // `sleep 60` is on
          bridle.sessions().interrupt(InterruptRequest.newBuilder().setSession(session).build());
        }
      }
      case TURN_ENDED -> {
        System.out.printf("turn %d ended: %s%n", turn, event.getTurnEnded().getStopReason());
        if (turn == 1) {
          var send = SendRequest.newBuilder().setSession(session);
          bridle.sessions().send(send.addContent(Bridle.text("sleep 60")).build());
        } else {
          bridle.sessions().stop(StopRequest.newBuilder().setSession(session).build());
        }
      }
      case SESSION_ENDED ->
          System.out.println("the session ended: " + event.getSessionEnded().getReason());
      default -> {}
    }
  }
}
