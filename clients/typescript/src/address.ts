/** Where a token may go in plaintext. */

/** Whether a host, as a URL writes it, is this machine. A name is not looked up for it. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(host);
}
