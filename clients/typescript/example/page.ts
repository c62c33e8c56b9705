/** In a page a context doesn't outlast an `await`: there the headers of a call name its span. */
import { context, propagation, trace, type Span } from "@opentelemetry/api";
import { content, type Client } from "@bridle/client";
import type { SessionRef } from "@bridle/client/v1";

/** Sends as a part of the span's trace, and watches as one. */
export async function sendAndWatch(client: Client, session: SessionRef, span: Span): Promise<void> {
  const headers: Record<string, string> = {};
  propagation.inject(trace.setSpan(context.active(), span), headers);
  await client.sessions.send({ session, content: content("go on") }, { headers });
  for await (const event of client.watch({ targets: [{ session }] }, { headers })) {
    console.log(event.sequence);
  }
}
