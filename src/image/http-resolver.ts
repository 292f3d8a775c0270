import { type HttpOptions, HttpStorage } from '../storage/http.ts';
import { parseHttpUrl, resolveUrl, urlFolder } from '../storage/http-url.ts';
import { type OutsideFile, type OutsideResolver, refusal } from './open-gate.ts';

/** How files are read that an image on a server names. */
export interface HttpResolverOptions extends HttpOptions {
  /** URLs of folders beside the image's own in whose trees backing and data files may lie. */
  allowExternal?: readonly string[];
}

/**
 * The gate for files an image at `url` names: those of its own folder's tree on the same server, and what
 * is allowed besides. Relative names are taken from the folder of the image that names them. Such files
 * are read without following redirections, which could lead anywhere; user, password and headers are sent
 * for those of the image's own server only.
 * @throws Qcow2Error INVALID_ARGUMENT: no http or https URL; the gate itself throws EXTERNAL_REFUSED
 * @example
 * import { HttpStorage, httpResolver, Image } from 'qcow2';
 *
 * const url = 'https://images.example/overlay.qcow2';
 * const image = await Image.open(await HttpStorage.open(url), { resolver: httpResolver(url) });
 * await image.read(0, new Uint8Array(4096));
 * await image.close();
 */
export function httpResolver(
  url: string | URL,
  options: HttpResolverOptions = {},
): OutsideResolver {
  const { allowExternal = [], ...rest } = options;
  const { url: image, authorization } = parseHttpUrl(String(url));
  const headers = authorization === undefined ? rest.headers : { authorization, ...rest.headers };
  const open = (file: OutsideFile): Promise<HttpStorage> => {
    const found = resolveUrl(
      file.name,
      file.namedBy,
      [String(url), ...allowExternal].map(urlFolder),
    );
    if (found === null || file.writable) throw refusal(file, HINT);
    const isOwn = found.origin === image.origin;
    return HttpStorage.open(found, {
      ...rest,
      headers: isOwn ? headers : undefined,
      redirects: false,
    });
  };
  return Object.assign(open, { judgesUrls: true });
}

/**
 * The gate for URLs that an image elsewhere names, and for what is named there in turn.
 * @param allowed URLs of folders
 */
export function urlResolver(
  allowed: readonly string[],
  options: HttpOptions = {},
): OutsideResolver {
  const folders = allowed.map(urlFolder);
  const open = (file: OutsideFile): Promise<HttpStorage> => {
    const found = resolveUrl(file.name, file.namedBy, folders);
    if (found === null || file.writable) throw refusal(file, HINT);
    return HttpStorage.open(found, { ...options, headers: undefined, redirects: false });
  };
  return Object.assign(open, { judgesUrls: true });
}

const HINT = "it is outside the image's folder on its server (--allow-external URL opens more)";
