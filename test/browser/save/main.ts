// A page that saves as the explorer does.
import {
  convertAndSave,
  prepareSaving,
  type SaveRequest,
} from '../../../web/save/convert-and-save.ts';

interface TestWindow {
  ready?: Promise<unknown>;
  showSaveFilePicker?: unknown;
  save?: typeof save;
  /** How often it was said that the browser may hold a file in memory. */
  held?: number;
}
const page = window as unknown as TestWindow;

/** @param abortAt share of the work after which it is aborted */
async function save(
  names: string[],
  request: Omit<SaveRequest, 'files'>,
  abortAt = Number.POSITIVE_INFINITY,
): Promise<object> {
  const { files } = document.querySelector<HTMLInputElement>('#files')!;
  const picked = names.map((name) => [...files!].find((file) => file.name === name)!);
  const controller = new AbortController();
  let aborted = 0;
  const onProgress = (done: number, total: number): void => {
    if (aborted > 0 || done < total * abortAt) return;
    aborted = performance.now();
    controller.abort();
  };
  try {
    const { signal } = controller;
    const onHeld = (): void => {
      page.held!++;
    };
    return await convertAndSave({ ...request, files: picked }, { onProgress, signal, onHeld });
  } catch (error) {
    const { code, message } = error as Error & { code: string };
    return { code, message, isQuick: performance.now() - aborted < 100 };
  }
}

/** In place of the dialog, which no test can use: a file of the page. */
async function pick({ suggestedName }: { suggestedName: string }): Promise<FileSystemFileHandle> {
  if (suggestedName === '') throw new DOMException('The user aborted a request.', 'AbortError');
  const folder = await navigator.storage.getDirectory();
  return folder.getFileHandle(suggestedName, { create: true });
}

page.save = save;
page.held = 0;
const has = new URLSearchParams(location.search);
if (has.has('picker')) page.showSaveFilePicker = pick;
else delete page.showSaveFilePicker;
if (has.has('none')) Object.defineProperty(navigator, 'serviceWorker', { value: undefined });
if (has.has('full') || has.has('asks') || has.has('waits')) {
  const estimate = navigator.storage.estimate.bind(navigator.storage);
  let isAllowed = false;
  navigator.storage.estimate = async () => (isAllowed ? estimate() : { quota: 1000, usage: 999 });
  navigator.storage.persist = async () => {
    if (has.has('waits')) await new Promise(() => undefined);
    isAllowed = has.has('asks');
    return isAllowed;
  };
}
page.ready = prepareSaving();
