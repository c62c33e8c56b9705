package dev.bridle.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * Who may do what. Calls are made as in SessionService, with the same errors of
 * every call and the same rule for request ids.
 * </pre>
 */
@io.grpc.stub.annotations.GrpcGenerated
public final class IdentityServiceGrpc {

  private IdentityServiceGrpc() {}

  public static final java.lang.String SERVICE_NAME = "bridle.v1.IdentityService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.WhoAmIRequest,
      dev.bridle.v1.WhoAmIResponse> getWhoAmIMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "WhoAmI",
      requestType = dev.bridle.v1.WhoAmIRequest.class,
      responseType = dev.bridle.v1.WhoAmIResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.WhoAmIRequest,
      dev.bridle.v1.WhoAmIResponse> getWhoAmIMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.WhoAmIRequest, dev.bridle.v1.WhoAmIResponse> getWhoAmIMethod;
    if ((getWhoAmIMethod = IdentityServiceGrpc.getWhoAmIMethod) == null) {
      synchronized (IdentityServiceGrpc.class) {
        if ((getWhoAmIMethod = IdentityServiceGrpc.getWhoAmIMethod) == null) {
          IdentityServiceGrpc.getWhoAmIMethod = getWhoAmIMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.WhoAmIRequest, dev.bridle.v1.WhoAmIResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "WhoAmI"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.WhoAmIRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.WhoAmIResponse.getDefaultInstance()))
              .setSchemaDescriptor(new IdentityServiceMethodDescriptorSupplier("WhoAmI"))
              .build();
        }
      }
    }
    return getWhoAmIMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.CreateTokenRequest,
      dev.bridle.v1.CreateTokenResponse> getCreateTokenMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "CreateToken",
      requestType = dev.bridle.v1.CreateTokenRequest.class,
      responseType = dev.bridle.v1.CreateTokenResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.CreateTokenRequest,
      dev.bridle.v1.CreateTokenResponse> getCreateTokenMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.CreateTokenRequest, dev.bridle.v1.CreateTokenResponse> getCreateTokenMethod;
    if ((getCreateTokenMethod = IdentityServiceGrpc.getCreateTokenMethod) == null) {
      synchronized (IdentityServiceGrpc.class) {
        if ((getCreateTokenMethod = IdentityServiceGrpc.getCreateTokenMethod) == null) {
          IdentityServiceGrpc.getCreateTokenMethod = getCreateTokenMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.CreateTokenRequest, dev.bridle.v1.CreateTokenResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "CreateToken"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.CreateTokenRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.CreateTokenResponse.getDefaultInstance()))
              .setSchemaDescriptor(new IdentityServiceMethodDescriptorSupplier("CreateToken"))
              .build();
        }
      }
    }
    return getCreateTokenMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.ListTokensRequest,
      dev.bridle.v1.ListTokensResponse> getListTokensMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListTokens",
      requestType = dev.bridle.v1.ListTokensRequest.class,
      responseType = dev.bridle.v1.ListTokensResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.ListTokensRequest,
      dev.bridle.v1.ListTokensResponse> getListTokensMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.ListTokensRequest, dev.bridle.v1.ListTokensResponse> getListTokensMethod;
    if ((getListTokensMethod = IdentityServiceGrpc.getListTokensMethod) == null) {
      synchronized (IdentityServiceGrpc.class) {
        if ((getListTokensMethod = IdentityServiceGrpc.getListTokensMethod) == null) {
          IdentityServiceGrpc.getListTokensMethod = getListTokensMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.ListTokensRequest, dev.bridle.v1.ListTokensResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListTokens"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.ListTokensRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.ListTokensResponse.getDefaultInstance()))
              .setSchemaDescriptor(new IdentityServiceMethodDescriptorSupplier("ListTokens"))
              .build();
        }
      }
    }
    return getListTokensMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.RevokeTokenRequest,
      dev.bridle.v1.RevokeTokenResponse> getRevokeTokenMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "RevokeToken",
      requestType = dev.bridle.v1.RevokeTokenRequest.class,
      responseType = dev.bridle.v1.RevokeTokenResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.RevokeTokenRequest,
      dev.bridle.v1.RevokeTokenResponse> getRevokeTokenMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.RevokeTokenRequest, dev.bridle.v1.RevokeTokenResponse> getRevokeTokenMethod;
    if ((getRevokeTokenMethod = IdentityServiceGrpc.getRevokeTokenMethod) == null) {
      synchronized (IdentityServiceGrpc.class) {
        if ((getRevokeTokenMethod = IdentityServiceGrpc.getRevokeTokenMethod) == null) {
          IdentityServiceGrpc.getRevokeTokenMethod = getRevokeTokenMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.RevokeTokenRequest, dev.bridle.v1.RevokeTokenResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "RevokeToken"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.RevokeTokenRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.RevokeTokenResponse.getDefaultInstance()))
              .setSchemaDescriptor(new IdentityServiceMethodDescriptorSupplier("RevokeToken"))
              .build();
        }
      }
    }
    return getRevokeTokenMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.CreateWorkspaceRequest,
      dev.bridle.v1.CreateWorkspaceResponse> getCreateWorkspaceMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "CreateWorkspace",
      requestType = dev.bridle.v1.CreateWorkspaceRequest.class,
      responseType = dev.bridle.v1.CreateWorkspaceResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.CreateWorkspaceRequest,
      dev.bridle.v1.CreateWorkspaceResponse> getCreateWorkspaceMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.CreateWorkspaceRequest, dev.bridle.v1.CreateWorkspaceResponse> getCreateWorkspaceMethod;
    if ((getCreateWorkspaceMethod = IdentityServiceGrpc.getCreateWorkspaceMethod) == null) {
      synchronized (IdentityServiceGrpc.class) {
        if ((getCreateWorkspaceMethod = IdentityServiceGrpc.getCreateWorkspaceMethod) == null) {
          IdentityServiceGrpc.getCreateWorkspaceMethod = getCreateWorkspaceMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.CreateWorkspaceRequest, dev.bridle.v1.CreateWorkspaceResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "CreateWorkspace"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.CreateWorkspaceRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.CreateWorkspaceResponse.getDefaultInstance()))
              .setSchemaDescriptor(new IdentityServiceMethodDescriptorSupplier("CreateWorkspace"))
              .build();
        }
      }
    }
    return getCreateWorkspaceMethod;
  }

  private static volatile io.grpc.MethodDescriptor<dev.bridle.v1.ListWorkspacesRequest,
      dev.bridle.v1.ListWorkspacesResponse> getListWorkspacesMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "ListWorkspaces",
      requestType = dev.bridle.v1.ListWorkspacesRequest.class,
      responseType = dev.bridle.v1.ListWorkspacesResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<dev.bridle.v1.ListWorkspacesRequest,
      dev.bridle.v1.ListWorkspacesResponse> getListWorkspacesMethod() {
    io.grpc.MethodDescriptor<dev.bridle.v1.ListWorkspacesRequest, dev.bridle.v1.ListWorkspacesResponse> getListWorkspacesMethod;
    if ((getListWorkspacesMethod = IdentityServiceGrpc.getListWorkspacesMethod) == null) {
      synchronized (IdentityServiceGrpc.class) {
        if ((getListWorkspacesMethod = IdentityServiceGrpc.getListWorkspacesMethod) == null) {
          IdentityServiceGrpc.getListWorkspacesMethod = getListWorkspacesMethod =
              io.grpc.MethodDescriptor.<dev.bridle.v1.ListWorkspacesRequest, dev.bridle.v1.ListWorkspacesResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "ListWorkspaces"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.ListWorkspacesRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  dev.bridle.v1.ListWorkspacesResponse.getDefaultInstance()))
              .setSchemaDescriptor(new IdentityServiceMethodDescriptorSupplier("ListWorkspaces"))
              .build();
        }
      }
    }
    return getListWorkspacesMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static IdentityServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<IdentityServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<IdentityServiceStub>() {
        @java.lang.Override
        public IdentityServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new IdentityServiceStub(channel, callOptions);
        }
      };
    return IdentityServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports all types of calls on the service
   */
  public static IdentityServiceBlockingV2Stub newBlockingV2Stub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<IdentityServiceBlockingV2Stub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<IdentityServiceBlockingV2Stub>() {
        @java.lang.Override
        public IdentityServiceBlockingV2Stub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new IdentityServiceBlockingV2Stub(channel, callOptions);
        }
      };
    return IdentityServiceBlockingV2Stub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static IdentityServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<IdentityServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<IdentityServiceBlockingStub>() {
        @java.lang.Override
        public IdentityServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new IdentityServiceBlockingStub(channel, callOptions);
        }
      };
    return IdentityServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static IdentityServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<IdentityServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<IdentityServiceFutureStub>() {
        @java.lang.Override
        public IdentityServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new IdentityServiceFutureStub(channel, callOptions);
        }
      };
    return IdentityServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * Who may do what. Calls are made as in SessionService, with the same errors of
   * every call and the same rule for request ids.
   * </pre>
   */
  public interface AsyncService {

    /**
     * <pre>
     * Tells whom the token belongs to and what it may do. Needs no right but a good token.
     * Errors: those of every call.
     * </pre>
     */
    default void whoAmI(dev.bridle.v1.WhoAmIRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.WhoAmIResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getWhoAmIMethod(), responseObserver);
    }

    /**
     * <pre>
     * Makes a token. Its rights and its workspace can't exceed the caller's. The secret is
     * in this answer only; a repeat of the request gets the receipt without it.
     * Errors:
     *   ALREADY_EXISTS NAME_TAKEN: choose another name.
     * </pre>
     */
    default void createToken(dev.bridle.v1.CreateTokenRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.CreateTokenResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getCreateTokenMethod(), responseObserver);
    }

    /**
     * <pre>
     * Lists tokens, without secrets.
     * Errors: those of every call.
     * </pre>
     */
    default void listTokens(dev.bridle.v1.ListTokensRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.ListTokensResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListTokensMethod(), responseObserver);
    }

    /**
     * <pre>
     * Revokes a token. Its open streams end within 5 s. Repeating it changes nothing.
     * Errors:
     *   NOT_FOUND TOKEN_NOT_FOUND: see ListTokens.
     * </pre>
     */
    default void revokeToken(dev.bridle.v1.RevokeTokenRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.RevokeTokenResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getRevokeTokenMethod(), responseObserver);
    }

    /**
     * <pre>
     * Makes a workspace.
     * Errors:
     *   ALREADY_EXISTS NAME_TAKEN: choose another name.
     * </pre>
     */
    default void createWorkspace(dev.bridle.v1.CreateWorkspaceRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.CreateWorkspaceResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getCreateWorkspaceMethod(), responseObserver);
    }

    /**
     * <pre>
     * Lists the workspaces that the caller may see.
     * Errors: those of every call.
     * </pre>
     */
    default void listWorkspaces(dev.bridle.v1.ListWorkspacesRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.ListWorkspacesResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getListWorkspacesMethod(), responseObserver);
    }
  }

  /**
   * Base class for the server implementation of the service IdentityService.
   * <pre>
   * Who may do what. Calls are made as in SessionService, with the same errors of
   * every call and the same rule for request ids.
   * </pre>
   */
  public static abstract class IdentityServiceImplBase
      implements io.grpc.BindableService, AsyncService {

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return IdentityServiceGrpc.bindService(this);
    }
  }

  /**
   * A stub to allow clients to do asynchronous rpc calls to service IdentityService.
   * <pre>
   * Who may do what. Calls are made as in SessionService, with the same errors of
   * every call and the same rule for request ids.
   * </pre>
   */
  public static final class IdentityServiceStub
      extends io.grpc.stub.AbstractAsyncStub<IdentityServiceStub> {
    private IdentityServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected IdentityServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new IdentityServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Tells whom the token belongs to and what it may do. Needs no right but a good token.
     * Errors: those of every call.
     * </pre>
     */
    public void whoAmI(dev.bridle.v1.WhoAmIRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.WhoAmIResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getWhoAmIMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Makes a token. Its rights and its workspace can't exceed the caller's. The secret is
     * in this answer only; a repeat of the request gets the receipt without it.
     * Errors:
     *   ALREADY_EXISTS NAME_TAKEN: choose another name.
     * </pre>
     */
    public void createToken(dev.bridle.v1.CreateTokenRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.CreateTokenResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getCreateTokenMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Lists tokens, without secrets.
     * Errors: those of every call.
     * </pre>
     */
    public void listTokens(dev.bridle.v1.ListTokensRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.ListTokensResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListTokensMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Revokes a token. Its open streams end within 5 s. Repeating it changes nothing.
     * Errors:
     *   NOT_FOUND TOKEN_NOT_FOUND: see ListTokens.
     * </pre>
     */
    public void revokeToken(dev.bridle.v1.RevokeTokenRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.RevokeTokenResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getRevokeTokenMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Makes a workspace.
     * Errors:
     *   ALREADY_EXISTS NAME_TAKEN: choose another name.
     * </pre>
     */
    public void createWorkspace(dev.bridle.v1.CreateWorkspaceRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.CreateWorkspaceResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getCreateWorkspaceMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Lists the workspaces that the caller may see.
     * Errors: those of every call.
     * </pre>
     */
    public void listWorkspaces(dev.bridle.v1.ListWorkspacesRequest request,
        io.grpc.stub.StreamObserver<dev.bridle.v1.ListWorkspacesResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getListWorkspacesMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * A stub to allow clients to do synchronous rpc calls to service IdentityService.
   * <pre>
   * Who may do what. Calls are made as in SessionService, with the same errors of
   * every call and the same rule for request ids.
   * </pre>
   */
  public static final class IdentityServiceBlockingV2Stub
      extends io.grpc.stub.AbstractBlockingStub<IdentityServiceBlockingV2Stub> {
    private IdentityServiceBlockingV2Stub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected IdentityServiceBlockingV2Stub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new IdentityServiceBlockingV2Stub(channel, callOptions);
    }

    /**
     * <pre>
     * Tells whom the token belongs to and what it may do. Needs no right but a good token.
     * Errors: those of every call.
     * </pre>
     */
    public dev.bridle.v1.WhoAmIResponse whoAmI(dev.bridle.v1.WhoAmIRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getWhoAmIMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Makes a token. Its rights and its workspace can't exceed the caller's. The secret is
     * in this answer only; a repeat of the request gets the receipt without it.
     * Errors:
     *   ALREADY_EXISTS NAME_TAKEN: choose another name.
     * </pre>
     */
    public dev.bridle.v1.CreateTokenResponse createToken(dev.bridle.v1.CreateTokenRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getCreateTokenMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lists tokens, without secrets.
     * Errors: those of every call.
     * </pre>
     */
    public dev.bridle.v1.ListTokensResponse listTokens(dev.bridle.v1.ListTokensRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getListTokensMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Revokes a token. Its open streams end within 5 s. Repeating it changes nothing.
     * Errors:
     *   NOT_FOUND TOKEN_NOT_FOUND: see ListTokens.
     * </pre>
     */
    public dev.bridle.v1.RevokeTokenResponse revokeToken(dev.bridle.v1.RevokeTokenRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getRevokeTokenMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Makes a workspace.
     * Errors:
     *   ALREADY_EXISTS NAME_TAKEN: choose another name.
     * </pre>
     */
    public dev.bridle.v1.CreateWorkspaceResponse createWorkspace(dev.bridle.v1.CreateWorkspaceRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getCreateWorkspaceMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lists the workspaces that the caller may see.
     * Errors: those of every call.
     * </pre>
     */
    public dev.bridle.v1.ListWorkspacesResponse listWorkspaces(dev.bridle.v1.ListWorkspacesRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getListWorkspacesMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do limited synchronous rpc calls to service IdentityService.
   * <pre>
   * Who may do what. Calls are made as in SessionService, with the same errors of
   * every call and the same rule for request ids.
   * </pre>
   */
  public static final class IdentityServiceBlockingStub
      extends io.grpc.stub.AbstractBlockingStub<IdentityServiceBlockingStub> {
    private IdentityServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected IdentityServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new IdentityServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Tells whom the token belongs to and what it may do. Needs no right but a good token.
     * Errors: those of every call.
     * </pre>
     */
    public dev.bridle.v1.WhoAmIResponse whoAmI(dev.bridle.v1.WhoAmIRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getWhoAmIMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Makes a token. Its rights and its workspace can't exceed the caller's. The secret is
     * in this answer only; a repeat of the request gets the receipt without it.
     * Errors:
     *   ALREADY_EXISTS NAME_TAKEN: choose another name.
     * </pre>
     */
    public dev.bridle.v1.CreateTokenResponse createToken(dev.bridle.v1.CreateTokenRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getCreateTokenMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lists tokens, without secrets.
     * Errors: those of every call.
     * </pre>
     */
    public dev.bridle.v1.ListTokensResponse listTokens(dev.bridle.v1.ListTokensRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListTokensMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Revokes a token. Its open streams end within 5 s. Repeating it changes nothing.
     * Errors:
     *   NOT_FOUND TOKEN_NOT_FOUND: see ListTokens.
     * </pre>
     */
    public dev.bridle.v1.RevokeTokenResponse revokeToken(dev.bridle.v1.RevokeTokenRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getRevokeTokenMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Makes a workspace.
     * Errors:
     *   ALREADY_EXISTS NAME_TAKEN: choose another name.
     * </pre>
     */
    public dev.bridle.v1.CreateWorkspaceResponse createWorkspace(dev.bridle.v1.CreateWorkspaceRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getCreateWorkspaceMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Lists the workspaces that the caller may see.
     * Errors: those of every call.
     * </pre>
     */
    public dev.bridle.v1.ListWorkspacesResponse listWorkspaces(dev.bridle.v1.ListWorkspacesRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getListWorkspacesMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do ListenableFuture-style rpc calls to service IdentityService.
   * <pre>
   * Who may do what. Calls are made as in SessionService, with the same errors of
   * every call and the same rule for request ids.
   * </pre>
   */
  public static final class IdentityServiceFutureStub
      extends io.grpc.stub.AbstractFutureStub<IdentityServiceFutureStub> {
    private IdentityServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected IdentityServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new IdentityServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Tells whom the token belongs to and what it may do. Needs no right but a good token.
     * Errors: those of every call.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.WhoAmIResponse> whoAmI(
        dev.bridle.v1.WhoAmIRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getWhoAmIMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Makes a token. Its rights and its workspace can't exceed the caller's. The secret is
     * in this answer only; a repeat of the request gets the receipt without it.
     * Errors:
     *   ALREADY_EXISTS NAME_TAKEN: choose another name.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.CreateTokenResponse> createToken(
        dev.bridle.v1.CreateTokenRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getCreateTokenMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Lists tokens, without secrets.
     * Errors: those of every call.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.ListTokensResponse> listTokens(
        dev.bridle.v1.ListTokensRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListTokensMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Revokes a token. Its open streams end within 5 s. Repeating it changes nothing.
     * Errors:
     *   NOT_FOUND TOKEN_NOT_FOUND: see ListTokens.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.RevokeTokenResponse> revokeToken(
        dev.bridle.v1.RevokeTokenRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getRevokeTokenMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Makes a workspace.
     * Errors:
     *   ALREADY_EXISTS NAME_TAKEN: choose another name.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.CreateWorkspaceResponse> createWorkspace(
        dev.bridle.v1.CreateWorkspaceRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getCreateWorkspaceMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Lists the workspaces that the caller may see.
     * Errors: those of every call.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<dev.bridle.v1.ListWorkspacesResponse> listWorkspaces(
        dev.bridle.v1.ListWorkspacesRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getListWorkspacesMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_WHO_AM_I = 0;
  private static final int METHODID_CREATE_TOKEN = 1;
  private static final int METHODID_LIST_TOKENS = 2;
  private static final int METHODID_REVOKE_TOKEN = 3;
  private static final int METHODID_CREATE_WORKSPACE = 4;
  private static final int METHODID_LIST_WORKSPACES = 5;

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
        case METHODID_WHO_AM_I:
          serviceImpl.whoAmI((dev.bridle.v1.WhoAmIRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.WhoAmIResponse>) responseObserver);
          break;
        case METHODID_CREATE_TOKEN:
          serviceImpl.createToken((dev.bridle.v1.CreateTokenRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.CreateTokenResponse>) responseObserver);
          break;
        case METHODID_LIST_TOKENS:
          serviceImpl.listTokens((dev.bridle.v1.ListTokensRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.ListTokensResponse>) responseObserver);
          break;
        case METHODID_REVOKE_TOKEN:
          serviceImpl.revokeToken((dev.bridle.v1.RevokeTokenRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.RevokeTokenResponse>) responseObserver);
          break;
        case METHODID_CREATE_WORKSPACE:
          serviceImpl.createWorkspace((dev.bridle.v1.CreateWorkspaceRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.CreateWorkspaceResponse>) responseObserver);
          break;
        case METHODID_LIST_WORKSPACES:
          serviceImpl.listWorkspaces((dev.bridle.v1.ListWorkspacesRequest) request,
              (io.grpc.stub.StreamObserver<dev.bridle.v1.ListWorkspacesResponse>) responseObserver);
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
          getWhoAmIMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.WhoAmIRequest,
              dev.bridle.v1.WhoAmIResponse>(
                service, METHODID_WHO_AM_I)))
        .addMethod(
          getCreateTokenMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.CreateTokenRequest,
              dev.bridle.v1.CreateTokenResponse>(
                service, METHODID_CREATE_TOKEN)))
        .addMethod(
          getListTokensMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.ListTokensRequest,
              dev.bridle.v1.ListTokensResponse>(
                service, METHODID_LIST_TOKENS)))
        .addMethod(
          getRevokeTokenMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.RevokeTokenRequest,
              dev.bridle.v1.RevokeTokenResponse>(
                service, METHODID_REVOKE_TOKEN)))
        .addMethod(
          getCreateWorkspaceMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.CreateWorkspaceRequest,
              dev.bridle.v1.CreateWorkspaceResponse>(
                service, METHODID_CREATE_WORKSPACE)))
        .addMethod(
          getListWorkspacesMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              dev.bridle.v1.ListWorkspacesRequest,
              dev.bridle.v1.ListWorkspacesResponse>(
                service, METHODID_LIST_WORKSPACES)))
        .build();
  }

  private static abstract class IdentityServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    IdentityServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return dev.bridle.v1.IdentityServiceProto.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("IdentityService");
    }
  }

  private static final class IdentityServiceFileDescriptorSupplier
      extends IdentityServiceBaseDescriptorSupplier {
    IdentityServiceFileDescriptorSupplier() {}
  }

  private static final class IdentityServiceMethodDescriptorSupplier
      extends IdentityServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final java.lang.String methodName;

    IdentityServiceMethodDescriptorSupplier(java.lang.String methodName) {
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
      synchronized (IdentityServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new IdentityServiceFileDescriptorSupplier())
              .addMethod(getWhoAmIMethod())
              .addMethod(getCreateTokenMethod())
              .addMethod(getListTokensMethod())
              .addMethod(getRevokeTokenMethod())
              .addMethod(getCreateWorkspaceMethod())
              .addMethod(getListWorkspacesMethod())
              .build();
        }
      }
    }
    return result;
  }
}
