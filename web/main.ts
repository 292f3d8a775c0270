import { printable } from '../src/errors.ts';
import { isHttpUrl } from '../src/storage/http-url.ts';
import { alertLine, byId, facts } from './dom.ts';
import { plural, sizeText } from './model/sizes.ts';
import { prepareSaving } from './save/convert-and-save.ts';
import { showCheck } from './views/check.ts';
import { ConvertView } from './views/convert-view.ts';
import { showFiles } from './views/files.ts';
import { HexView } from './views/hex-view.ts';
import { MapView } from './views/map-view.ts';
import { showPartitions } from './views/partitions.ts';
import { fill, messageOf, type PlaceInImage, type Session, type View } from './views/session.ts';
import { showSnapshots } from './views/snapshots.ts';
import { showStatistics } from './views/statistics.ts';
import { showStructure } from './views/structure.ts';
import { Tabs } from './views/tabs.ts';
import { Client, Superseded } from './worker/client.ts';
import type { Given } from './worker/messages.ts';

/** Panels that are filled when they are first shown. */
const VIEWS: Readonly<Record<string, View>> = {
  structure: showStructure,
  files: showFiles,
  snapshots: showSnapshots,
  partitions: showPartitions,
  statistics: showStatistics,
  check: showCheck,
};

const map = new MapView();
const hex = new HexView();
const convert = new ConvertView();
const tabs = new Tabs(byId('tabs'), (name) => showPanel(name));

let session: Session | undefined;
/** Ends what is done for the image before. */
let current = new AbortController();
/** Panels that show the image that is open. */
const filled = new Set<string>();

function showPanel(name: string): void {
  if (session === undefined || filled.has(name)) return;
  filled.add(name);
  const view = VIEWS[name];
  if (view !== undefined) fill(byId(`panel-${name}`), view, session);
  else if (name === 'bytes') hex.goTo({ in: 'disk', offset: 0 });
}

/** Opens an image and the files it names; the one before is let go of first. */
async function open(given: readonly Given[]): Promise<void> {
  current.abort();
  const control = new AbortController();
  current = control;
  session = undefined;
  byId('error').hidden = true;
  byId('opening').hidden = false;
  byId('explorer').hidden = true;
  byId('welcome').hidden = true;
  try {
    show(await load(given, control), 'structure');
    byId('name').focus({ preventScroll: true });
  } catch (error) {
    if (error instanceof Superseded) return;
    byId('error').replaceWith(Object.assign(alertLine(messageOf(error)), { id: 'error' }));
    byId('welcome').hidden = false;
  }
  byId('opening').hidden = true;
}

/** Opens the image that is open once more, with a further file it names. */
async function give(file: Given): Promise<void> {
  const before = session;
  if (before === undefined) return;
  const others = before.given.filter(({ as }) => as === undefined || as !== file.as);
  const control = new AbortController();
  try {
    const opened = await load([...others, file], control);
    if (session !== before) throw new Superseded('another image was opened');
    current.abort();
    current = control;
    show(opened, 'files');
    byId('tab-files').focus({ preventScroll: true });
  } catch (error) {
    control.abort();
    throw error;
  }
}

async function load(given: readonly Given[], control: AbortController): Promise<Session> {
  const client = new Client(control.signal);
  const opened = await client.ask('open', { given });
  const partitions = client.ask('partitions');
  // Who shows them says what is wrong.
  partitions.catch(() => undefined);
  return { client, opened, given, partitions, goTo, give };
}

function show(opened: Session, tab: string): void {
  session = opened;
  filled.clear();
  byId('explorer').hidden = false;
  byId('name').textContent = printable(opened.opened.name);
  document.title = `${opened.opened.name} – disk image explorer`;
  fill(byId('summary'), showSummary, opened);
  map.open(opened);
  hex.open(opened);
  convert.open(opened);
  tabs.show(tab);
}

const showSummary: View = async (panel, { client, opened }) => {
  const { virtualSize, fileSize, clusterSize, chain } = opened;
  const lacking = chain.filter(({ refusal }) => refusal !== undefined).length;
  const basics = [
    ['Disk size', sizeText(virtualSize)],
    ['File size', sizeText(fileSize)],
    ['Cluster size', clusterSize === undefined ? undefined : sizeText(clusterSize)],
  ] as const;
  panel.replaceChildren(facts([...basics, ['Format', opened.format]]));
  // The tables that only this reads may be damaged: the rest is there all the same.
  const found = await client.ask('info').catch((error: Error) => error);
  if (found instanceof Superseded) return;
  if (found instanceof Error) {
    panel.append(alertLine(found.message));
    return;
  }
  const { formatSpecific: qcow2, snapshots, dirtyFlag, encrypted } = found;
  const states = [dirtyFlag ? 'not closed cleanly' : '', qcow2?.corrupt ? 'marked corrupt' : ''];
  panel.replaceChildren(
    facts([
      ...basics,
      ['Format', qcow2 === undefined ? opened.format : `qcow2, compat ${qcow2.compat}`],
      ['Compression', qcow2?.compressionType],
      ['Subclusters', qcow2?.extendedL2 ? '32 in a cluster' : undefined],
      ['Encryption', encrypted ? qcow2?.encrypt?.format : undefined],
      ['Snapshots', snapshots.length > 0 ? String(snapshots.length) : undefined],
      ['Bitmaps', qcow2 && qcow2.bitmaps.length > 0 ? String(qcow2.bitmaps.length) : undefined],
      ['Files', chain.length > 1 ? String(chain.length) : undefined],
      ['Not given', lacking > 0 ? plural(lacking, 'file') : undefined],
      ['State', states.filter((text) => text !== '').join(', ')],
    ]),
  );
};

function goTo(place: PlaceInImage): void {
  map.goTo(place);
  filled.add('bytes');
  tabs.show('bytes');
  hex.goTo(place);
  byId('hex').focus({ preventScroll: true });
  byId('panel-bytes').scrollIntoView({ block: 'nearest' });
}

byId('files').addEventListener('change', () => {
  const input = byId<HTMLInputElement>('files');
  const files = [...(input.files ?? [])];
  // The same file can be chosen again.
  input.value = '';
  openAll(files);
});

byId('open-url').addEventListener('submit', (event) => {
  event.preventDefault();
  openAll(urlsIn(byId<HTMLInputElement>('url').value));
});

// Anywhere but in a field, what is pasted is meant to be opened.
window.addEventListener('paste', (event) => {
  if (event.target instanceof HTMLInputElement) return;
  const { files, text } = contentOf(event.clipboardData);
  openAll(files.length > 0 ? files : urlsIn(text).filter(isHttpUrl));
});

function openAll(sources: readonly Given['source'][]): void {
  if (sources.length > 0) open(sources.map((source) => ({ source })));
}

/** Spaces have no place in a URL. */
function urlsIn(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '');
}

function contentOf(data: DataTransfer | null): { files: File[]; text: string } {
  return { files: [...(data?.files ?? [])], text: data?.getData('text/plain') ?? '' };
}

/** How many elements with something dragged over them were entered and not left. */
let entered = 0;
function showDrop(by: number): void {
  entered = by === 0 ? 0 : entered + by;
  byId('drop').hidden = entered <= 0;
}

window.addEventListener('dragenter', () => showDrop(1));
window.addEventListener('dragleave', () => showDrop(-1));
window.addEventListener('dragover', (event) => event.preventDefault());
window.addEventListener('drop', (event) => {
  event.preventDefault();
  showDrop(0);
  const { files, text } = contentOf(event.dataTransfer);
  openAll(files.length > 0 ? files : urlsIn(text).filter(isHttpUrl));
});

// The page works without a network from here on.
prepareSaving();
