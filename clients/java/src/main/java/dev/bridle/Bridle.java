package dev.bridle;

import dev.bridle.v1.Content;
import dev.bridle.v1.HostServiceGrpc;
import dev.bridle.v1.IdentityServiceGrpc;
import dev.bridle.v1.SessionRef;
import dev.bridle.v1.SessionServiceGrpc;
import dev.bridle.v1.WatchRequest;
import io.grpc.Channel;
import io.grpc.ClientInterceptor;
import io.grpc.ClientInterceptors;
import io.grpc.ManagedChannel;
import io.grpc.netty.shaded.io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.WeakHashMap;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/** One connection to control. It connects at the first call, and may be used by many threads. */
public final class Bridle implements AutoCloseable {
  /** Where control listens unless it was told otherwise. */
  public static final String DEFAULT_ADDRESS = "127.0.0.1:7420";

  private final ManagedChannel connection;
  private final Guard guard;
  private final Channel channel;
  private final Supplier<String> token;
  private final Retry retry;
  // Those that nobody holds any more are not kept.
  private final Set<Watch> watches =
      Collections.synchronizedSet(Collections.newSetFromMap(new WeakHashMap<>()));

  private Bridle(
      ManagedChannel connection,
      Supplier<String> token,
      Retry retry,
      List<ClientInterceptor> interceptors) {
    this.connection = connection;
    this.token = Guard.checked(token);
    this.retry = retry;
    // Behind the guard: each try is a call of its own to them.
    Channel below = ClientInterceptors.interceptForward(connection, interceptors);
    this.guard = new Guard(this.token, retry, connection);
    this.channel = ClientInterceptors.intercept(below, guard);
  }

  /**
   * Begins to describe a client of the control at {@code address}, "host:port".
   *
   * @throws IllegalArgumentException it is no address
   */
  public static Builder at(String address) {
    if (!address.matches("([^\\[\\]:/\\s]+|\\[[0-9a-fA-F:.%]+\\]):\\d{1,5}")) {
      throw new IllegalArgumentException("\"" + address + "\" is no address, which is HOST:PORT");
    }
    return new Builder(address);
  }

  /**
   * As BRIDLE_ADDRESS, BRIDLE_TOKEN, BRIDLE_TOKEN_FILE, BRIDLE_TLS_CA and BRIDLE_INSECURE say; inside
   * a session (BRIDLE_SESSION is set) the token is the session's own, of the file.
   */
  public static Builder fromEnvironment() {
    Map<String, String> set = new HashMap<>(System.getenv());
    set.values().removeIf(String::isEmpty);
    Builder builder = at(set.getOrDefault("BRIDLE_ADDRESS", DEFAULT_ADDRESS));
    boolean own = set.containsKey("BRIDLE_SESSION") || !set.containsKey("BRIDLE_TOKEN");
    if (own && set.containsKey("BRIDLE_TOKEN_FILE")) {
      builder.tokenFile(Path.of(set.get("BRIDLE_TOKEN_FILE")));
    } else if (set.containsKey("BRIDLE_TOKEN")) {
      builder.token(set.get("BRIDLE_TOKEN"));
    }
    if (set.containsKey("BRIDLE_TLS_CA")) {
      builder.authority(Path.of(set.get("BRIDLE_TLS_CA")));
    }
    if (set.getOrDefault("BRIDLE_INSECURE", "").matches("(?i)1|true|yes|on")) {
      builder.plaintext();
    }
    return builder;
  }

  public SessionServiceGrpc.SessionServiceBlockingStub sessions() {
    return SessionServiceGrpc.newBlockingStub(channel);
  }

  public HostServiceGrpc.HostServiceBlockingStub hosts() {
    return HostServiceGrpc.newBlockingStub(channel);
  }

  public IdentityServiceGrpc.IdentityServiceBlockingStub identities() {
    return IdentityServiceGrpc.newBlockingStub(channel);
  }

  /** What all stubs go over, for other kinds of stubs: futures, observers. */
  public Channel channel() {
    return channel;
  }

  /** Begins with the first update that is asked for; targets begin where their cursors say. */
  public Watch watch(WatchRequest request) {
    Watch watch = new Watch(this, guard, request, token, retry);
    watches.add(watch);
    return watch;
  }

  /** Ends the connection, and all calls and watches on it, with CANCELLED. */
  @Override
  public void close() {
    connection.shutdownNow();
    guard.end();
    List<Watch> open;
    synchronized (watches) {
      open = List.copyOf(watches);
    }
    open.forEach(Watch::close);
    try {
      connection.awaitTermination(5, TimeUnit.SECONDS);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  /** A session by its slug. */
  public static SessionRef slug(String slug) {
    return SessionRef.newBuilder().setSlug(slug).build();
  }

  /** A session by its id, which never changes and is never used again. */
  public static SessionRef id(String id) {
    return SessionRef.newBuilder().setId(id).build();
  }

  /** A text as content. */
  public static Content text(String text) {
    return Content.newBuilder().setText(text).build();
  }

  /** How a client is made. */
  public static final class Builder {
    private final String address;
    private Supplier<String> token;
    private File authority;
    private boolean plaintext;
    private Retry retry = Retry.DEFAULT;
    private final List<ClientInterceptor> interceptors = new ArrayList<>();

    private Builder(String address) {
      this.address = address;
    }

    /** Sends the token with every call. */
    public Builder token(String token) {
      return token(() -> token);
    }

    /** Asks for the token, anew for each call. */
    public Builder token(Supplier<String> token) {
      this.token = token;
      return this;
    }

    /** Reads the token from a file, anew for each call. */
    public Builder tokenFile(Path path) {
      return token(
          () -> {
            try {
              return Files.readString(path).strip();
            } catch (IOException failed) {
              throw new UncheckedIOException(failed);
            }
          });
    }

    /** The file, PEM, with the certificate authority of control. */
    public Builder authority(Path path) {
      this.authority = path.toFile();
      return this;
    }

    /** Talks without TLS to an address that is not loopback: everybody between reads the token. */
    public Builder plaintext() {
      this.plaintext = true;
      return this;
    }

    /** How calls are tried again. */
    public Builder retry(Retry retry) {
      this.retry = retry;
      return this;
    }

    /**
     * Interceptors beside the client's own, for traces, say. They see each try of a call and each
     * connection of a watch, the first of them first, in the {@code io.grpc.Context} of the caller.
     */
    public Builder interceptors(ClientInterceptor... more) {
      interceptors.addAll(List.of(more));
      return this;
    }

    /** IllegalStateException: no token was given, or the authority can't be read. */
    public Bridle connect() {
      if (token == null) {
        throw new IllegalStateException("no token was given");
      }
      NettyChannelBuilder builder =
          NettyChannelBuilder.forTarget(address)
              .userAgent("bridle-java")
              // Without it a peer that froze goes unnoticed for minutes.
              .keepAliveTime(10, TimeUnit.SECONDS)
              .keepAliveTimeout(5, TimeUnit.SECONDS)
              .keepAliveWithoutCalls(true)
              // The client's own tries know which failures are safe to repeat.
              .disableRetry();
      if (authority != null) {
        try {
          builder.sslContext(GrpcSslContexts.forClient().trustManager(authority).build());
        } catch (IOException | IllegalArgumentException failed) {
          throw new IllegalStateException(authority + ": no authority (PEM)", failed);
        }
      } else if (plaintext || isLoopback(address)) {
        builder.usePlaintext();
      }
      return new Bridle(builder.build(), token, Objects.requireNonNull(retry), interceptors);
    }

    private static boolean isLoopback(String address) {
      String host = address.replaceFirst(":\\d+$", "");
      if (!host.matches("localhost|[0-9.]+|\\[[0-9a-fA-F:.]+\\]")) {
        return false; // A name is not looked up for this: whoever answers could take TLS away.
      }
      try {
        return InetAddress.getByName(host).isLoopbackAddress();
      } catch (UnknownHostException unknown) {
        return false;
      }
    }
  }
}
