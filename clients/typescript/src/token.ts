/** The token that goes with each call. */
import { Code, ConnectError } from "@connectrpc/connect";

/** Gives the token for a call; asked anew for each, so that it may be renewed meanwhile. */
export type TokenSource = () => string | Promise<string>;

/** What gives the token, and fails with UNAUTHENTICATED where there is none that can be sent. */
export function checked(source: string | TokenSource): () => Promise<string> {
  return async () => {
    let token: string;
    try {
      token = typeof source === "string" ? source : await source();
    } catch (cause) {
      throw new ConnectError("the token can't be read", Code.Unauthenticated, undefined, undefined, cause);
    }
    if (!/^[\x21-\x7e]+$/.test(token)) {
      throw new ConnectError("the token is empty, or holds characters that no token has", Code.Unauthenticated);
    }
    return token;
  };
}

/** Whether a call was refused for a token that was made fresh meanwhile. */
export async function renewed(error: unknown, token: TokenSource, sent: string | undefined): Promise<boolean> {
  if (sent === undefined || ConnectError.from(error).code !== Code.Unauthenticated) return false;
  try {
    return (await token()) !== sent;
  } catch {
    return false; // What the call failed with tells more.
  }
}
