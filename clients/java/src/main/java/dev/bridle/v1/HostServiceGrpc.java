package dev.bridle.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Hosts, as their owners and users see them. Calls are made as in SessionService,
 * with the same errors of every call and the same rule for request ids.
 * </pre>
 */
@io.grpc.stub.annotations.GrpcGenerated
public final class HostServiceGrpc {

  private HostServiceGrpc() {}

  public static final java.lang.String SERVICE_NAME = "bridle.v1.HostService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.ListHostsRequest,
      dev.bridle.v1.ListHostsResponse> getListHostsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListHosts",
      requestType = dev.bridle.v1.ListHostsRequest.class,
      responseType = dev.bridle.v1.ListHostsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.ListHostsRequest,
      dev.bridle.v1.ListHostsResponse> getListHostsMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.ListHostsRequest, dev.bridle.v1.ListHostsResponse> getListHostsMethod;
    if ((getListHostsMethod = HostServiceGrpc.getListHostsMethod) == null) {
      synchronized (HostServiceGrpc.class) {
        if ((getListHostsMethod = HostServiceGrpc.getListHostsMethod) == null) {
          HostServiceGrpc.getListHostsMethod = getListHostsMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.ListHostsRequest, dev.bridle.v1.ListHostsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListHosts"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.ListHostsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.ListHostsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new HostServiceMethodDescriptorSupplier("ListHosts"))
              .build();
        }
      }
    }
    return getListHostsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.ListAgentsRequest,
      dev.bridle.v1.ListAgentsResponse> getListAgentsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListAgents",
      requestType = dev.bridle.v1.ListAgentsRequest.class,
      responseType = dev.bridle.v1.ListAgentsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.ListAgentsRequest,
      dev.bridle.v1.ListAgentsResponse> getListAgentsMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.ListAgentsRequest, dev.bridle.v1.ListAgentsResponse> getListAgentsMethod;
    if ((getListAgentsMethod = HostServiceGrpc.getListAgentsMethod) == null) {
      synchronized (HostServiceGrpc.class) {
        if ((getListAgentsMethod = HostServiceGrpc.getListAgentsMethod) == null) {
          HostServiceGrpc.getListAgentsMethod = getListAgentsMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.ListAgentsRequest, dev.bridle.v1.ListAgentsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListAgents"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.ListAgentsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.ListAgentsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new HostServiceMethodDescriptorSupplier("ListAgents"))
              .build();
        }
      }
    }
    return getListAgentsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.DrainHostRequest,
      dev.bridle.v1.DrainHostResponse> getDrainHostMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "DrainHost",
      requestType = dev.bridle.v1.DrainHostRequest.class,
      responseType = dev.bridle.v1.DrainHostResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.DrainHostRequest,
      dev.bridle.v1.DrainHostResponse> getDrainHostMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.DrainHostRequest, dev.bridle.v1.DrainHostResponse> getDrainHostMethod;
    if ((getDrainHostMethod = HostServiceGrpc.getDrainHostMethod) == null) {
      synchronized (HostServiceGrpc.class) {
        if ((getDrainHostMethod = HostServiceGrpc.getDrainHostMethod) == null) {
          HostServiceGrpc.getDrainHostMethod = getDrainHostMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.DrainHostRequest, dev.bridle.v1.DrainHostResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "DrainHost"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.DrainHostRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.DrainHostResponse.getDefaultInstance()))
              .setSchemaDescriptor(new HostServiceMethodDescriptorSupplier("DrainHost"))
              .build();
        }
      }
    }
    return getDrainHostMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.RemoveHostRequest,
      dev.bridle.v1.RemoveHostResponse> getRemoveHostMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "RemoveHost",
      requestType = dev.bridle.v1.RemoveHostRequest.class,
      responseType = dev.bridle.v1.RemoveHostResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.RemoveHostRequest,
      dev.bridle.v1.RemoveHostResponse> getRemoveHostMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.RemoveHostRequest, dev.bridle.v1.RemoveHostResponse> getRemoveHostMethod;
    if ((getRemoveHostMethod = HostServiceGrpc.getRemoveHostMethod) == null) {
      synchronized (HostServiceGrpc.class) {
        if ((getRemoveHostMethod = HostServiceGrpc.getRemoveHostMethod) == null) {
          HostServiceGrpc.getRemoveHostMethod = getRemoveHostMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.RemoveHostRequest, dev.bridle.v1.RemoveHostResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "RemoveHost"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.RemoveHostRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.RemoveHostResponse.getDefaultInstance()))
              .setSchemaDescriptor(new HostServiceMethodDescriptorSupplier("RemoveHost"))
              .build();
        }
      }
    }
    return getRemoveHostMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.CreateJoinTokenRequest,
      dev.bridle.v1.CreateJoinTokenResponse> getCreateJoinTokenMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "CreateJoinToken",
      requestType = dev.bridle.v1.CreateJoinTokenRequest.class,
      responseType = dev.bridle.v1.CreateJoinTokenResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.CreateJoinTokenRequest,
      dev.bridle.v1.CreateJoinTokenResponse> getCreateJoinTokenMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.CreateJoinTokenRequest, dev.bridle.v1.CreateJoinTokenResponse> getCreateJoinTokenMethod;
    if ((getCreateJoinTokenMethod = HostServiceGrpc.getCreateJoinTokenMethod) == null) {
      synchronized (HostServiceGrpc.class) {
        if ((getCreateJoinTokenMethod = HostServiceGrpc.getCreateJoinTokenMethod) == null) {
          HostServiceGrpc.getCreateJoinTokenMethod = getCreateJoinTokenMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.CreateJoinTokenRequest, dev.bridle.v1.CreateJoinTokenResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "CreateJoinToken"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.CreateJoinTokenRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.CreateJoinTokenResponse.getDefaultInstance()))
              .setSchemaDescriptor(new HostServiceMethodDescriptorSupplier("CreateJoinToken"))
              .build();
        }
      }
    }
    return getCreateJoinTokenMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static HostServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<HostServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<HostServiceStub>() {
        @java.lang.Override
        public HostServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new HostServiceStub(channel, callOptions);
        }
      };
    return HostServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports all types of calls on the service
   */
  public static HostServiceBlockingV2Stub newBlockingV2Stub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<HostServiceBlockingV2Stub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<HostServiceBlockingV2Stub>() {
        @java.lang.Override
        public HostServiceBlockingV2Stub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new HostServiceBlockingV2Stub(channel, callOptions);
        }
      };
    return HostServiceBlockingV2Stub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static HostServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<HostServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<HostServiceBlockingStub>() {
        @java.lang.Override
        public HostServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new HostServiceBlockingStub(channel, callOptions);
        }
      };
    return HostServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static HostServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<HostServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<HostServiceFutureStub>() {
        @java.lang.Override
        public HostServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new HostServiceFutureStub(channel, callOptions);
        }
      };
    return HostServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Hosts, as their owners and users see them. Calls are made as in SessionService,
   * with the same errors of every call and the same rule for request ids.
   * </pre>
   */
  public interface AsyncService {

    /**
     * <pre>
     * Lists the workspace's hosts.
     * Errors: those of every call.
     * </pre>
     */
    default void listHosts(dev.bridle.v1.ListHostsRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.ListHostsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListHostsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Lists the agents that the workspace's hosts can run, one row per host and agent.
     * Errors:
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     * </pre>
     */
    default void listAgents(dev.bridle.v1.ListAgentsRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.ListAgentsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListAgentsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Stops the sessions of a host and admits no new ones. Idempotent; `undo` admits again.
     * The outcome is RAN once no session is live on it.
     * Errors:
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     * </pre>
     */
    default void drainHost(dev.bridle.v1.DrainHostRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.DrainHostResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getDrainHostMethod(), responseObserver);
    }

    /**
     * <pre>
     * Removes a host: its credential is dead at once. A host that owns live sessions only
     * with `force`, which writes SessionEnded{FAILED, HOST_ABANDONED, verified=false} for each.
     * Errors:
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     *   FAILED_PRECONDITION HOST_IN_USE: drain it first, or use force.
     * </pre>
     */
    default void removeHost(dev.bridle.v1.RemoveHostRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.RemoveHostResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getRemoveHostMethod(), responseObserver);
    }

    /**
     * <pre>
     * Makes a join token: good for one host, once, for a short time. The secret is in this
     * answer only; a repeat of the request gets the receipt without it.
     * Errors: those of every call.
     * </pre>
     */
    default void createJoinToken(dev.bridle.v1.CreateJoinTokenRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.CreateJoinTokenResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getCreateJoinTokenMethod(), responseObserver);
    }
  }

  /**
   * Base class for the server implementation of the service HostService.
   * <pre>
   * Hosts, as their owners and users see them. Calls are made as in SessionService,
   * with the same errors of every call and the same rule for request ids.
   * </pre>
   */
  public static abstract class HostServiceImplBase
      implements io.grpc.BindableService, AsyncService {

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return HostServiceGrpc.bindService(this);
    }
  }

  /**
   * A stub to allow clients to do asynchronous rpc calls to service HostService.
   * <pre>
   * Hosts, as their owners and users see them. Calls are made as in SessionService,
   * with the same errors of every call and the same rule for request ids.
   * </pre>
   */
  public static final class HostServiceStub
      extends io.grpc.stub.AbstractAsyncStub<HostServiceStub> {
    private HostServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected HostServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new HostServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Lists the workspace's hosts.
     * Errors: those of every call.
     * </pre>
     */
    public void listHosts(dev.bridle.v1.ListHostsRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.ListHostsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListHostsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Lists the agents that the workspace's hosts can run, one row per host and agent.
     * Errors:
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     * </pre>
     */
    public void listAgents(dev.bridle.v1.ListAgentsRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.ListAgentsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListAgentsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Stops the sessions of a host and admits no new ones. Idempotent; `undo` admits again.
     * The outcome is RAN once no session is live on it.
     * Errors:
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     * </pre>
     */
    public void drainHost(dev.bridle.v1.DrainHostRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.DrainHostResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getDrainHostMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Removes a host: its credential is dead at once. A host that owns live sessions only
     * with `force`, which writes SessionEnded{FAILED, HOST_ABANDONED, verified=false} for each.
     * Errors:
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     *   FAILED_PRECONDITION HOST_IN_USE: drain it first, or use force.
     * </pre>
     */
    public void removeHost(dev.bridle.v1.RemoveHostRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.RemoveHostResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getRemoveHostMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Makes a join token: good for one host, once, for a short time. The secret is in this
     * answer only; a repeat of the request gets the receipt without it.
     * Errors: those of every call.
     * </pre>
     */
    public void createJoinToken(dev.bridle.v1.CreateJoinTokenRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.CreateJoinTokenResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getCreateJoinTokenMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * A stub to allow clients to do synchronous rpc calls to service HostService.
   * <pre>
   * Hosts, as their owners and users see them. Calls are made as in SessionService,
   * with the same errors of every call and the same rule for request ids.
   * </pre>
   */
  public static final class HostServiceBlockingV2Stub
      extends io.grpc.stub.AbstractBlockingStub<HostServiceBlockingV2Stub> {
    private HostServiceBlockingV2Stub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected HostServiceBlockingV2Stub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new HostServiceBlockingV2Stub(channel, callOptions);
    }

    /**
     * <pre>
     * Lists the workspace's hosts.
     * Errors: those of every call.
     * </pre>
     */
    public dev.bridle.v1.ListHostsResponse listHosts(dev.bridle.v1.ListHostsRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getListHostsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lists the agents that the workspace's hosts can run, one row per host and agent.
     * Errors:
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     * </pre>
     */
    public dev.bridle.v1.ListAgentsResponse listAgents(dev.bridle.v1.ListAgentsRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getListAgentsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Stops the sessions of a host and admits no new ones. Idempotent; `undo` admits again.
     * The outcome is RAN once no session is live on it.
     * Errors:
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     * </pre>
     */
    public dev.bridle.v1.DrainHostResponse drainHost(dev.bridle.v1.DrainHostRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getDrainHostMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Removes a host: its credential is dead at once. A host that owns live sessions only
     * with `force`, which writes SessionEnded{FAILED, HOST_ABANDONED, verified=false} for each.
     * Errors:
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     *   FAILED_PRECONDITION HOST_IN_USE: drain it first, or use force.
     * </pre>
     */
    public dev.bridle.v1.RemoveHostResponse removeHost(dev.bridle.v1.RemoveHostRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getRemoveHostMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Makes a join token: good for one host, once, for a short time. The secret is in this
     * answer only; a repeat of the request gets the receipt without it.
     * Errors: those of every call.
     * </pre>
     */
    public dev.bridle.v1.CreateJoinTokenResponse createJoinToken(dev.bridle.v1.CreateJoinTokenRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getCreateJoinTokenMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do limited synchronous rpc calls to service HostService.
   * <pre>
   * Hosts, as their owners and users see them. Calls are made as in SessionService,
   * with the same errors of every call and the same rule for request ids.
   * </pre>
   */
  public static final class HostServiceBlockingStub
      extends io.grpc.stub.AbstractBlockingStub<HostServiceBlockingStub> {
    private HostServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected HostServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new HostServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Lists the workspace's hosts.
     * Errors: those of every call.
     * </pre>
     */
    public dev.bridle.v1.ListHostsResponse listHosts(dev.bridle.v1.ListHostsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListHostsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lists the agents that the workspace's hosts can run, one row per host and agent.
     * Errors:
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     * </pre>
     */
    public dev.bridle.v1.ListAgentsResponse listAgents(dev.bridle.v1.ListAgentsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListAgentsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Stops the sessions of a host and admits no new ones. Idempotent; `undo` admits again.
     * The outcome is RAN once no session is live on it.
     * Errors:
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     * </pre>
     */
    public dev.bridle.v1.DrainHostResponse drainHost(dev.bridle.v1.DrainHostRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getDrainHostMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Removes a host: its credential is dead at once. A host that owns live sessions only
     * with `force`, which writes SessionEnded{FAILED, HOST_ABANDONED, verified=false} for each.
     * Errors:
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     *   FAILED_PRECONDITION HOST_IN_USE: drain it first, or use force.
     * </pre>
     */
    public dev.bridle.v1.RemoveHostResponse removeHost(dev.bridle.v1.RemoveHostRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getRemoveHostMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Makes a join token: good for one host, once, for a short time. The secret is in this
     * answer only; a repeat of the request gets the receipt without it.
     * Errors: those of every call.
     * </pre>
     */
    public dev.bridle.v1.CreateJoinTokenResponse createJoinToken(dev.bridle.v1.CreateJoinTokenRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getCreateJoinTokenMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do ListenableFuture-style rpc calls to service HostService.
   * <pre>
   * Hosts, as their owners and users see them. Calls are made as in SessionService,
   * with the same errors of every call and the same rule for request ids.
   * </pre>
   */
  public static final class HostServiceFutureStub
      extends io.grpc.stub.AbstractFutureStub<HostServiceFutureStub> {
    private HostServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected HostServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new HostServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Lists the workspace's hosts.
     * Errors: those of every call.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.ListHostsResponse> listHosts(
        dev.bridle.v1.ListHostsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListHostsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Lists the agents that the workspace's hosts can run, one row per host and agent.
     * Errors:
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.ListAgentsResponse> listAgents(
        dev.bridle.v1.ListAgentsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListAgentsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Stops the sessions of a host and admits no new ones. Idempotent; `undo` admits again.
     * The outcome is RAN once no session is live on it.
     * Errors:
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.DrainHostResponse> drainHost(
        dev.bridle.v1.DrainHostRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getDrainHostMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Removes a host: its credential is dead at once. A host that owns live sessions only
     * with `force`, which writes SessionEnded{FAILED, HOST_ABANDONED, verified=false} for each.
     * Errors:
     *   NOT_FOUND HOST_NOT_FOUND: see ListHosts.
     *   FAILED_PRECONDITION HOST_IN_USE: drain it first, or use force.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.RemoveHostResponse> removeHost(
        dev.bridle.v1.RemoveHostRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getRemoveHostMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Makes a join token: good for one host, once, for a short time. The secret is in this
     * answer only; a repeat of the request gets the receipt without it.
     * Errors: those of every call.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.CreateJoinTokenResponse> createJoinToken(
        dev.bridle.v1.CreateJoinTokenRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getCreateJoinTokenMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_LIST_HOSTS = 0;
  private static final int METHODID_LIST_AGENTS = 1;
  private static final int METHODID_DRAIN_HOST = 2;
  private static final int METHODID_REMOVE_HOST = 3;
  private static final int METHODID_CREATE_JOIN_TOKEN = 4;

  private static final class MethodHandlers<Req, Resp> implements
      io.grpc.stub.ServerCalls.UnaryMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.ServerStreamingMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.ClientStreamingMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.BidiStreamingMethod<Req, Resp> {
    private final AsyncService serviceImpl;
    private final int methodId;

    MethodHandlers(AsyncService serviceImpl, int methodId) {
      this.serviceImpl = serviceImpl;
      this.methodId = methodId;
    }

    @java.lang.Override
    @java.lang.SuppressWarnings("unchecked")
    public void invoke(Req request, io.grpc.stub.StreamObserver<Resp> responseObserver) {
      switch (methodId) {
        case METHODID_LIST_HOSTS:
          serviceImpl.listHosts((dev.bridle.v1.ListHostsRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.ListHostsResponse>) responseObserver);
          break;
        case METHODID_LIST_AGENTS:
          serviceImpl.listAgents((dev.bridle.v1.ListAgentsRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.ListAgentsResponse>) responseObserver);
          break;
        case METHODID_DRAIN_HOST:
          serviceImpl.drainHost((dev.bridle.v1.DrainHostRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.DrainHostResponse>) responseObserver);
          break;
        case METHODID_REMOVE_HOST:
          serviceImpl.removeHost((dev.bridle.v1.RemoveHostRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.RemoveHostResponse>) responseObserver);
          break;
        case METHODID_CREATE_JOIN_TOKEN:
          serviceImpl.createJoinToken((dev.bridle.v1.CreateJoinTokenRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.CreateJoinTokenResponse>) responseObserver);
          break;
        default:
          throw new AssertionError();
      }
    }

    @java.lang.Override
    @java.lang.SuppressWarnings("unchecked")
    public io.grpc.stub.StreamObserver<Req> invoke(
        io.grpc.stub.StreamObserver<Resp> responseObserver) {
      switch (methodId) {
        default:
          throw new AssertionError();
      }
    }
  }

  public static final io.grpc.ServerServiceDefinition bindService(AsyncService service) {
    return io.grpc.ServerServiceDefinition.builder(getServiceDescriptor())
        .addMethod(
          getListHostsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.ListHostsRequest,
              dev.bridle.v1.ListHostsResponse>(
                service, METHODID_LIST_HOSTS)))
        .addMethod(
          getListAgentsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.ListAgentsRequest,
              dev.bridle.v1.ListAgentsResponse>(
                service, METHODID_LIST_AGENTS)))
        .addMethod(
          getDrainHostMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.DrainHostRequest,
              dev.bridle.v1.DrainHostResponse>(
                service, METHODID_DRAIN_HOST)))
        .addMethod(
          getRemoveHostMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.RemoveHostRequest,
              dev.bridle.v1.RemoveHostResponse>(
                service, METHODID_REMOVE_HOST)))
        .addMethod(
          getCreateJoinTokenMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.CreateJoinTokenRequest,
              dev.bridle.v1.CreateJoinTokenResponse>(
                service, METHODID_CREATE_JOIN_TOKEN)))
        .build();
  }

  private static abstract class HostServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    HostServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return dev.bridle.v1.HostServiceProto.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("HostService");
    }
  }

  private static final class HostServiceFileDescriptorSupplier
      extends HostServiceBaseDescriptorSupplier {
    HostServiceFileDescriptorSupplier() {}
  }

  private static final class HostServiceMethodDescriptorSupplier
      extends HostServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final java.lang.String methodName;

    HostServiceMethodDescriptorSupplier(java.lang.String methodName) {
      this.methodName = methodName;
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.MethodDescriptor getMethodDescriptor() {
      return getServiceDescriptor().findMethodByName(methodName);
    }
  }

  private static volatile io.grpc.ServiceDescriptor serviceDescriptor;

  public static io.grpc.ServiceDescriptor getServiceDescriptor() {
    io.grpc.ServiceDescriptor result = serviceDescriptor;
    if (result == null) {
      synchronized (HostServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new HostServiceFileDescriptorSupplier())
              .addMethod(getListHostsMethod())
              .addMethod(getListAgentsMethod())
              .addMethod(getDrainHostMethod())
              .addMethod(getRemoveHostMethod())
              .addMethod(getCreateJoinTokenMethod())
              .build();
        }
      }
    }
    return result;
  }
}
