package dev.bridle.interop;

import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.DynamicMessage;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import dev.bridle.Bridle;
import dev.bridle.Failure;
import dev.bridle.Update;
import dev.bridle.Watch;
import dev.bridle.v1.HostServiceGrpc;
import dev.bridle.v1.IdentityServiceGrpc;
import dev.bridle.v1.SessionServiceGrpc;
import dev.bridle.v1.WatchRequest;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.Context;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.ServiceDescriptor;
import io.grpc.Status;
import io.grpc.protobuf.ProtoMethodDescriptorSupplier;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Base64;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/**
 * The runner of the interoperability suite: does with the Java client what it is told, one JSON
 * object a line, and answers with such lines; see tests/clients/README.md for the words. It holds no
 * expectation: those stand in the suite, once for all languages.
 */
public final class Runner {
  private static final List<ServiceDescriptor> SERVICES =
      List.of(
          SessionServiceGrpc.getServiceDescriptor(),
          HostServiceGrpc.getServiceDescriptor(),
          IdentityServiceGrpc.getServiceDescriptor());

  private static final Context.Key<Metadata> METADATA = Context.key("metadata");

  private final Gson gson = new Gson();
  private final PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
  private final Map<String, Bridle> clients = new ConcurrentHashMap<>();
  private final Map<String, Runnable> running = new ConcurrentHashMap<>();
  private final ExecutorService threads = Executors.newCachedThreadPool();

  private Runner() {}

  public static void main(String[] arguments) throws IOException {
    Runner runner = new Runner();
    var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      runner.take(JsonParser.parseString(line).getAsJsonObject());
    }
    System.exit(0);
  }

  private void take(JsonObject order) {
    switch (text(order, "op")) {
      case "dial" -> {
        try {
          clients.put(text(order, "client"), dial(order));
          say(order, "done", true);
        } catch (IllegalArgumentException | IllegalStateException refused) {
          say(order, "refused", refused.getMessage());
        }
      }
      case "close" -> {
        clients.get(text(order, "client")).close();
        say(order, "done", true);
      }
      case "cancel" -> {
        running.getOrDefault(text(order, "target"), () -> {}).run();
        say(order, "done", true);
      }
      default ->
          threads.execute(Context.current().withValue(METADATA, metadata(order)).wrap(() -> work(order)));
    }
  }

  private static Bridle dial(JsonObject order) {
    var builder =
        order.has("environment")
            ? Bridle.fromEnvironment()
            : Bridle.at(text(order, "address")).token(text(order, "token"));
    builder.interceptors(Runner::withCallersMetadata);
    if (!text(order, "token_file").isEmpty()) {
      builder.tokenFile(Path.of(text(order, "token_file")));
    }
    if (!text(order, "authority").isEmpty()) {
      builder.authority(Path.of(text(order, "authority")));
    }
    return builder.connect();
  }

  private void work(JsonObject order) {
    try {
      Bridle bridle = clients.get(text(order, "client"));
      if (text(order, "op").equals("watch")) {
        watch(bridle, order);
      } else {
        call(bridle, order);
      }
    } catch (ExecutionException failed) {
      say(order, "error", failure(failed.getCause()));
    } catch (Exception failed) {
      say(order, "error", failure(failed));
    } finally {
      running.remove(text(order, "id"));
    }
  }

  private void watch(Bridle bridle, JsonObject order) throws InvalidProtocolBufferException {
    var request = WatchRequest.newBuilder();
    JsonFormat.parser().merge(order.get("request").toString(), request);
    try (Watch watch = bridle.watch(request.build())) {
      running.put(text(order, "id"), watch::close);
      while (watch.hasNext()) {
        Update update = watch.next();
        if (update instanceof Update.Told told) {
          long cursor = watch.cursors().get(0).getAfterSequence();
          say(order, "event", json(told.event()), "session", told.sessionId(), "cursor", cursor);
        } else if (update instanceof Update.Progressed progressed) {
          say(order, "progress", json(progressed.progress()));
        } else if (update instanceof Update.Shortened shortened) {
          say(order, "compacted", json(shortened.compacted()));
        } else if (update instanceof Update.Live live) {
          say(order, "live_text", json(live.text()));
        } else if (update instanceof Update.Connected) {
          say(order, "connected", true);
        } else if (update instanceof Update.Disconnected disconnected) {
          say(order, "disconnected", failure(disconnected.error()));
        }
      }
    }
    say(order, "end", true);
  }

  @SuppressWarnings("unchecked")
  private void call(Bridle bridle, JsonObject order) throws Exception {
    var method = (MethodDescriptor<Message, Message>) method(order);
    var supplier = (ProtoMethodDescriptorSupplier) method.getSchemaDescriptor();
    var input = supplier.getMethodDescriptor().getInputType();
    Message.Builder builder = DynamicMessage.newBuilder(input);
    if (order.has("request_bytes")) {
      builder.mergeFrom(Base64.getDecoder().decode(text(order, "request_bytes")));
    } else if (order.has("request")) {
      JsonFormat.parser().merge(order.get("request").toString(), builder);
    }
    // Through bytes: a stub takes its own class of the message.
    Message request = method.parseRequest(builder.build().toByteString().newInput());
    CallOptions options = CallOptions.DEFAULT;
    if (order.has("timeout")) {
      long limit = (long) (order.get("timeout").getAsDouble() * 1000);
      options = options.withDeadlineAfter(limit, TimeUnit.MILLISECONDS);
    }
    Context.CancellableContext context = Context.current().withCancellation();
    running.put(text(order, "id"), () -> context.cancel(null));
    Context before = context.attach();
    try {
      if (method.getType() == MethodDescriptor.MethodType.UNARY) {
        // As a future, whose further tries begin on other threads; the example's calls block.
        ClientCall<Message, Message> call = bridle.channel().newCall(method, options);
        say(order, "response", shown(order, ClientCalls.futureUnaryCall(call, request).get()));
        return;
      }
      Iterator<Message> answers =
          ClientCalls.blockingServerStreamingCall(bridle.channel(), method, options, request);
      while (answers.hasNext()) {
        say(order, "message", shown(order, answers.next()));
      }
      say(order, "end", true);
    } finally {
      context.detach(before);
      context.cancel(null);
    }
  }

  private static Metadata metadata(JsonObject order) {
    Metadata extra = new Metadata();
    if (order.has("metadata")) {
      for (var entry : order.getAsJsonObject("metadata").entrySet()) {
        var key = Metadata.Key.of(entry.getKey(), Metadata.ASCII_STRING_MARSHALLER);
        extra.put(key, entry.getValue().getAsString());
      }
    }
    return extra;
  }

  /** An interceptor as those for traces are: what it adds it has from the caller's context. */
  private static <Q, A> ClientCall<Q, A> withCallersMetadata(
      MethodDescriptor<Q, A> method, CallOptions options, Channel next) {
    Metadata extra = METADATA.get();
    return MetadataUtils.newAttachHeadersInterceptor(extra == null ? new Metadata() : extra)
        .interceptCall(method, options, next);
  }

  private static MethodDescriptor<?, ?> method(JsonObject order) {
    Stream<MethodDescriptor<?, ?>> all =
        SERVICES.stream().flatMap(service -> service.getMethods().stream());
    String name = text(order, "service") + "/" + text(order, "method");
    return all.filter(each -> each.getFullMethodName().equals(name)).findFirst().orElseThrow();
  }

  private JsonElement shown(JsonObject order, Message message)
      throws InvalidProtocolBufferException {
    if (order.has("answer_bytes") && order.get("answer_bytes").getAsBoolean()) {
      return gson.toJsonTree(Base64.getEncoder().encodeToString(message.toByteArray()));
    }
    return json(message);
  }

  private static JsonElement json(Message message) throws InvalidProtocolBufferException {
    return JsonParser.parseString(JsonFormat.printer().print(message));
  }

  private JsonObject failure(Throwable failed) {
    JsonObject shown = new JsonObject();
    var found = Failure.of(failed);
    Status status = Status.fromThrowable(failed);
    shown.addProperty("code", status.getCode().name());
    shown.addProperty("reason", found.map(Failure::name).orElse(""));
    shown.addProperty("message", found.map(Failure::message).orElse(String.valueOf(status)));
    found.ifPresent(
        said -> {
          shown.add("metadata", gson.toJsonTree(said.metadata()));
          shown.add("fields", gson.toJsonTree(said.fields().stream().map(f -> f.getField()).toList()));
          shown.addProperty("retry_after", said.retryAfter().toMillis() / 1000.0);
        });
    return shown;
  }

  private void say(JsonObject order, Object... what) {
    JsonObject line = new JsonObject();
    line.add("id", order.get("id"));
    for (int at = 0; at < what.length; at += 2) {
      Object value = what[at + 1];
      line.add(what[at].toString(), value instanceof JsonElement element ? element : gson.toJsonTree(value));
    }
    synchronized (out) {
      out.println(line);
      out.flush();
    }
  }

  private static String text(JsonObject order, String key) {
    return order.has(key) ? order.get(key).getAsString() : "";
  }
}
