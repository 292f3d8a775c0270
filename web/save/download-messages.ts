/** Announces a download whose bytes come through a port, before its URL is asked for. */
export interface DownloadStart {
  kind: 'download';
  url: string;
  name: string;
  /** Of the file, in bytes. */
  length: number;
  port: MessagePort;
}

/** What the page says: to the worker itself the first two, through the port the others. */
export type DownloadMessage =
  | DownloadStart
  | { kind: 'stay' }
  | { kind: 'piece'; piece: Uint8Array<ArrayBuffer> }
  | { kind: 'end' }
  | { kind: 'abort'; reason: string };

/**
 * What the service worker says: it knows of the download, it was asked for it, it wants a piece (and
 * gives back the memory of an older one).
 */
export type DownloadReply =
  | { kind: 'ready' }
  | { kind: 'begun' }
  | { kind: 'pull'; memory: ArrayBuffer | undefined }
  | { kind: 'cancelled' };
