import { isQcow2Error, Qcow2Error } from '../errors.ts';

/** Whether a name is an address of a web server rather than a path. */
export function isHttpUrl(name: string): boolean {
  return /^https?:\/\//i.test(name);
}

/** An address as it is asked for, apart from what must not be shown. */
export interface HttpAddress {
  /** Without user, password and fragment. */
  readonly url: URL;
  /** For messages: without user and password, and what a query holds is left out. */
  readonly name: string;
  /** Value of the header `Authorization` that stands for the user and password of the URL. */
  readonly authorization: string | undefined;
}

/**
 * Takes an address apart.
 * @throws Qcow2Error INVALID_ARGUMENT: it is no http or https URL
 */
export function parseHttpUrl(text: string): HttpAddress {
  const name = shownName(text);
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    // Not as a cause: its message holds the text with all its secrets.
    throw new Qcow2Error('INVALID_ARGUMENT', `'${name}' is no valid URL`, { file: name });
  }
  if (!isHttpUrl(url.href)) {
    const what = `'${name}' is no http or https URL`;
    throw new Qcow2Error('INVALID_ARGUMENT', what, { file: name });
  }
  const authorization = basicAuthorization(url);
  url.username = '';
  url.password = '';
  url.hash = '';
  return { url, name, authorization };
}

function basicAuthorization({ username, password }: URL): string | undefined {
  if (username === '' && password === '') return undefined;
  const bytes = new TextEncoder().encode(`${decoded(username)}:${decoded(password)}`);
  return `Basic ${btoa(String.fromCharCode(...bytes))}`;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** A path as it is; of a URL what holds no secrets: `https://host/disk.qcow2?...`. */
export function shownName(name: string): string {
  if (!isHttpUrl(name)) return name;
  const scheme = name.slice(0, name.indexOf('/'));
  // Which part of it is a password only its author knows.
  if (!URL.canParse(name)) return `${scheme}//...`;
  const [, start = '', query] = /^([^?#]*)(\?)?/.exec(name)!;
  const withoutUser = start.replace(/^https?:\/\/[^/\\]*@/i, `${scheme}//`);
  return query === undefined ? withoutUser : `${withoutUser}?...`;
}

/** The error of opening a file or URL, with the words scripts look for in front. */
export function couldNotOpen(error: unknown, name: string): unknown {
  const prefix = `Could not open '${shownName(name)}': `;
  if (!isQcow2Error(error) || error.message.startsWith(prefix)) return error;
  // The name is said once.
  const subject = `'${shownName(name)}' `;
  const { message } = error;
  const why = message.startsWith(subject) ? `it ${message.slice(subject.length)}` : message;
  return new Qcow2Error(error.code, prefix + why, error.details, { cause: error });
}

/**
 * Where a name leads that an image on a server records, if that is in one of the folders; null if not.
 * @param name a URL, or a path from the folder of `namedBy`; characters of a path stand for themselves
 * @param folders URLs that end in a slash
 */
export function resolveUrl(name: string, namedBy: string, folders: readonly URL[]): URL | null {
  let url: URL;
  try {
    url = isHttpUrl(name) ? new URL(name) : new URL(encodedPath(name), namedBy);
  } catch {
    return null;
  }
  // An image that brings its own user, password or query could say more than where a file is.
  const isPlain = url.username === '' && url.password === '' && url.search === '';
  const isInside = folders.some(
    ({ origin, pathname }) => url.origin === origin && url.pathname.startsWith(pathname),
  );
  return isPlain && isInside && !hidesPath(url) ? url : null;
}

/** Slashes and dots that only the server decodes, perhaps twice, could lead out of the folder. */
function hidesPath({ pathname }: URL): boolean {
  return /%(25)*(2f|5c|00)/i.test(pathname) || pathname.split('/').some(leadsUp);
}

/** Some servers cut a segment at its semicolon; what is behind it may be no text that can be decoded. */
function leadsUp(segment: string): boolean {
  return /^(\.|%(25)*2e){2}(;|%(25)*3b|$)/i.test(segment);
}

/**
 * Reads a URL that stands for itself and, as a folder, for all below it.
 * @throws Qcow2Error INVALID_ARGUMENT: no http or https URL, or one with a user, password, query or fragment
 */
export function parseUrlPrefix(text: string): URL {
  const { url, name, authorization } = parseHttpUrl(text);
  if (authorization === undefined && url.search === '' && !/[?#]/.test(text) && !hidesPath(url))
    return url;
  const what = `'${name}' permits nothing: it must be scheme, host and path only`;
  throw new Qcow2Error('INVALID_ARGUMENT', what, { file: name });
}

/** Whether a URL is one of these, or in the tree of one; queries do not count. */
export function isBelowUrl(url: URL, prefixes: readonly URL[]): boolean {
  if (url.username !== '' || url.password !== '' || hidesPath(url)) return false;
  return prefixes.some(({ origin, pathname }) => {
    const folder = pathname.endsWith('/') ? pathname : `${pathname}/`;
    return url.origin === origin && (url.pathname === pathname || url.pathname.startsWith(folder));
  });
}

function encodedPath(name: string): string {
  return name.split('/').map(encodeURIComponent).join('/');
}

/** The folder a URL lies in, or the URL itself if it names a folder. */
export function urlFolder(url: string): URL {
  return new URL('.', parseHttpUrl(url).url);
}
