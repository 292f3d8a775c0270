/** A request to a web server. */
export interface HttpRequest {
  method: 'GET' | 'HEAD';
  /** By names in small letters. */
  headers: ReadonlyMap<string, string>;
  /** Ends the request, and receiving its answer. */
  signal: AbortSignal;
  /**
   * Whether redirections are followed, without what `PRIVATE_HEADERS` names if to another server. A
   * transport that cannot judge each of them follows none if it is asked to.
   */
  redirects: boolean | ((to: URL) => boolean);
}

/** The head of an answer, whose body is still to come. */
export interface HttpAnswer {
  status: number;
  /** A header by its name in small letters; null if the answer does not have it. */
  header(name: string): string | null;
  /** Where redirections led to; the URL asked for, if there were none. */
  url: string;
  /** Whether headers of the answer may be there although they do not show: a page sees only some. */
  hidesHeaders: boolean;
  /**
   * Receives the body into `into`, part by part, until the body ends. `received` is told the bytes of each
   * part, and throws if there is no room for it. Nothing is written any more when this has settled.
   */
  receive(into: Uint8Array, received: (length: number) => void): Promise<void>;
}

/**
 * Makes a request; settles when the head of its answer is here. Bodies that nobody receives end with the
 * signal.
 */
export type HttpTransport = (url: string, request: HttpRequest) => Promise<HttpAnswer>;

/** Headers meant for one server: they do not follow to another. */
export const PRIVATE_HEADERS = ['authorization', 'cookie', 'proxy-authorization'];

/** Requests by `fetch`, which is everywhere. */
export const fetchTransport: HttpTransport = async (url, { redirects, ...asked }) => {
  const redirect = redirects === true ? 'follow' : 'manual';
  const request = { ...asked, headers: [...asked.headers] as [string, string][] };
  // Ranges in the cache of a browser may be of another version, and are fetched one at a time.
  const response = await fetch(url, { ...request, redirect, cache: 'no-store' });
  return {
    // A page learns nothing of a redirection it does not follow.
    status: response.type === 'opaqueredirect' ? 302 : response.status,
    header: (name) => response.headers.get(name),
    url: response.url === '' ? url : response.url,
    hidesHeaders: response.type === 'cors',
    async receive(into, received) {
      if (response.body === null) return;
      const reader = response.body.getReader();
      let filled = 0;
      for (let next = await reader.read(); !next.done; next = await reader.read()) {
        received(next.value.length);
        into.set(next.value, filled);
        filled += next.value.length;
      }
    },
  };
};
