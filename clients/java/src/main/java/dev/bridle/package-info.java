/**
 * Steers running AI agents from Java.
 *
 * <pre>{@code
 * try (var bridle = Bridle.at("127.0.0.1:7420").token(token).connect()) {
 *     bridle.sessions().send(SendRequest.newBuilder()
 *         .setSession(Bridle.slug("fix-auth")).addContent(Bridle.text("go on")).build());
 * }
 * }</pre>
 *
 * The calls are those of the generated stubs in {@code dev.bridle.v1}, whose comments are the
 * specification. {@link dev.bridle.Bridle} adds what every caller needs: the token, one request id
 * for all tries of a request, tries after a lost connection ({@link dev.bridle.Retry}), errors by
 * reason ({@link dev.bridle.Failure}), and a {@link dev.bridle.Watch} that outlives its connections.
 */
package dev.bridle;
