import { type Grid, OUTSIDE } from '../model/grid.ts';
import { indexAt, type Place, placeOf } from '../model/hilbert-place.ts';
import { followPointers } from './pointers.ts';

/** What a map tells. */
export interface MapListener {
  /** The pointer is over a cell; undefined: over none any more. */
  onPoint(index: number | undefined): void;
  /** A cell was chosen, by pointer or keys. */
  onSelect(index: number): void;
  /** Enter was pressed on the chosen cell. */
  onEnter(index: number): void;
}

const MAX_CELL_PIXELS = 64;
/** Cells from this size on have gaps between them. */
const GAP_FROM_PIXELS = 9;
const STEP = 1.5;

/** A grid of cells in a canvas: zoom and pan with wheel, pinch, drag and keys; one cell is chosen. */
export class MapCanvas {
  readonly #canvas: HTMLCanvasElement;
  readonly #context: CanvasRenderingContext2D;
  readonly #base = document.createElement('canvas');
  readonly #listener: MapListener;
  #grid: Grid | undefined;
  #palette: Uint32Array = new Uint32Array(256);
  /** 1: the whole picture fits; the cell (may be a part of one) at the left and upper edge. */
  #zoom = 1;
  #left = 0;
  #top = 0;
  #cursor = 0;
  #pointed: number | undefined;
  #isDrawing = false;

  constructor(canvas: HTMLCanvasElement, listener: MapListener) {
    const context = canvas.getContext('2d');
    if (context === null) throw new Error('this browser cannot draw');
    this.#canvas = canvas;
    this.#context = context;
    this.#listener = listener;
    canvas.tabIndex = 0;
    // It has keys of its own, which a screen reader passes on.
    canvas.role = 'application';
    new ResizeObserver(() => this.#resize()).observe(canvas);
    canvas.addEventListener('keydown', (event) => this.#key(event));
    canvas.addEventListener('wheel', (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener('pointerleave', () => this.#point(undefined));
    canvas.addEventListener('focus', () => this.#later());
    canvas.addEventListener('blur', () => this.#later());
    followPointers(canvas, {
      onMove: (x, y) => this.#point(this.#cellAt(x, y)),
      onDrag: (dx, dy) => this.#pan(dx, dy),
      onPinch: (factor, x, y) => this.#zoomBy(factor, x, y),
      onTap: (x, y) => {
        const index = this.#cellAt(x, y);
        if (index !== undefined) this.select(index, true);
      },
    });
  }

  /** Shows another grid. @param colours of the kinds, `#rrggbb` or `#rgba` */
  show(grid: Grid, colours: readonly string[]): void {
    const started = performance.now();
    this.#grid = grid;
    this.#palette = paletteOf(colours);
    this.#cursor = 0;
    this.#pointed = undefined;
    this.#canvas.style.aspectRatio = `${grid.side} / ${grid.rows}`;
    this.#canvas.classList.toggle('wide', grid.rows < grid.side);
    // A few cells need not fill the page.
    this.#canvas.style.width = `min(100%, ${grid.side * MAX_CELL_PIXELS}px)`;
    this.#paint(grid);
    this.fit();
    this.#resize();
    this.#draw();
    performance.measure('draw the map', { start: started, end: performance.now() });
  }

  /** Shows everything. */
  fit(): void {
    this.#zoom = 1;
    this.#left = 0;
    this.#top = 0;
    this.#later();
  }

  /** Zooms about the chosen cell. */
  zoomIn(): void {
    this.#zoomAtCursor(STEP);
  }

  zoomOut(): void {
    this.#zoomAtCursor(1 / STEP);
  }

  /** Chooses a cell and brings it into view. */
  select(index: number, tells: boolean): void {
    if (this.#grid === undefined) return;
    this.#cursor = Math.max(0, Math.min(this.#grid.count - 1, index));
    this.#reveal();
    this.#later();
    if (tells) this.#listener.onSelect(this.#cursor);
  }

  /** CSS pixels of a cell. */
  get #cell(): number {
    if (this.#grid === undefined) return 1;
    const { clientWidth, clientHeight } = this.#canvas;
    return Math.min(clientWidth / this.#grid.side, clientHeight / this.#grid.rows) * this.#zoom;
  }

  #resize(): void {
    const scale = window.devicePixelRatio || 1;
    const width = Math.round(this.#canvas.clientWidth * scale);
    const height = Math.round(this.#canvas.clientHeight * scale);
    if (this.#canvas.width !== width) this.#canvas.width = width;
    if (this.#canvas.height !== height) this.#canvas.height = height;
    this.#later();
  }

  /** A pixel for each cell. */
  #paint({ side, rows, kinds }: Grid): void {
    this.#base.width = side;
    this.#base.height = rows;
    const context = this.#base.getContext('2d');
    if (context === null) return;
    const image = context.createImageData(side, rows);
    const pixels = new Uint32Array(image.data.buffer);
    const palette = this.#palette;
    for (let i = 0; i < kinds.length; i++) pixels[i] = palette[kinds[i]!]!;
    context.putImageData(image, 0, 0);
  }

  #later(): void {
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    requestAnimationFrame(() => this.#draw());
  }

  #draw(): void {
    this.#isDrawing = false;
    if (this.#grid === undefined) return;
    const { width, height, clientWidth } = this.#canvas;
    const context = this.#context;
    const scale = width / Math.max(1, clientWidth);
    const cell = this.#cell * scale;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    context.imageSmoothingEnabled = cell < 1;
    const columns = width / cell;
    const rows = height / cell;
    context.drawImage(this.#base, this.#left, this.#top, columns, rows, 0, 0, width, height);
    if (cell >= GAP_FROM_PIXELS * scale) this.#drawGaps(cell, columns, rows, scale);
    if (this.#pointed !== undefined) this.#outline(this.#pointed, cell, scale, 1.5);
    this.#outline(this.#cursor, cell, scale, document.activeElement === this.#canvas ? 3 : 2);
  }

  #drawGaps(cell: number, columns: number, rows: number, scale: number): void {
    const context = this.#context;
    context.fillStyle = getComputedStyle(this.#canvas).getPropertyValue('--surface');
    const { width, height } = this.#canvas;
    for (let x = Math.ceil(this.#left); x <= this.#left + columns; x++)
      context.fillRect(Math.round((x - this.#left) * cell) - scale / 2, 0, scale, height);
    for (let y = Math.ceil(this.#top); y <= this.#top + rows; y++)
      context.fillRect(0, Math.round((y - this.#top) * cell) - scale / 2, width, scale);
  }

  /** Dark in light, so that it is seen on any colour; never smaller than can be seen. */
  #outline(index: number, cell: number, scale: number, width: number): void {
    const { x, y } = placeOf(this.#grid!.side, index);
    const edge = (width + 2) * scale;
    const most = Math.min(this.#canvas.width, this.#canvas.height) - 2 * edge;
    const size = Math.min(Math.max(cell, 9 * scale), most);
    const isHidden = (at: number, from: number, end: number) => at + 1 < from || at * cell > end;
    if (isHidden(x, this.#left, this.#canvas.width + this.#left * cell)) return;
    if (isHidden(y, this.#top, this.#canvas.height + this.#top * cell)) return;
    const within = (at: number, end: number) => Math.max(edge, Math.min(end - size - edge, at));
    const left = within((x + 0.5 - this.#left) * cell - size / 2, this.#canvas.width);
    const top = within((y + 0.5 - this.#top) * cell - size / 2, this.#canvas.height);
    const context = this.#context;
    for (const [colour, line] of [['#fff', width + 2] as const, ['#111', width] as const]) {
      context.strokeStyle = colour;
      context.lineWidth = line * scale;
      context.strokeRect(left, top, size, size);
    }
  }

  #cellAt(x: number, y: number): number | undefined {
    const place = {
      x: Math.floor(this.#left + x / this.#cell),
      y: Math.floor(this.#top + y / this.#cell),
    };
    return this.#indexOf(place);
  }

  #indexOf({ x, y }: Place): number | undefined {
    const grid = this.#grid;
    if (grid === undefined || x < 0 || y < 0 || x >= grid.side || y >= grid.rows) return undefined;
    return grid.kinds[y * grid.side + x] === OUTSIDE ? undefined : indexAt(grid.side, { x, y });
  }

  #point(index: number | undefined): void {
    if (index === this.#pointed) return;
    this.#pointed = index;
    this.#later();
    this.#listener.onPoint(index);
  }

  #pan(dx: number, dy: number): void {
    this.#left -= dx / this.#cell;
    this.#top -= dy / this.#cell;
    this.#keepInside();
  }

  #wheel(event: WheelEvent): void {
    // What cannot be made smaller lets the page scroll.
    if (this.#zoom === 1 && event.deltaY > 0) return;
    event.preventDefault();
    this.#zoomBy(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
  }

  #zoomAtCursor(factor: number): void {
    const { x, y } = placeOf(this.#grid?.side ?? 1, this.#cursor);
    this.#reveal();
    this.#zoomBy(factor, (x + 0.5 - this.#left) * this.#cell, (y + 0.5 - this.#top) * this.#cell);
  }

  /** What is at a place stays there. */
  #zoomBy(factor: number, x: number, y: number): void {
    const before = this.#cell;
    const most = Math.max(1, (MAX_CELL_PIXELS * this.#zoom) / before);
    this.#zoom = Math.max(1, Math.min(most, this.#zoom * factor));
    this.#left += x / before - x / this.#cell;
    this.#top += y / before - y / this.#cell;
    this.#keepInside();
  }

  #keepInside(): void {
    if (this.#grid === undefined) return;
    const { side, rows } = this.#grid;
    const columns = this.#canvas.clientWidth / this.#cell;
    const lines = this.#canvas.clientHeight / this.#cell;
    this.#left = Math.max(0, Math.min(side - columns, this.#left));
    this.#top = Math.max(0, Math.min(rows - lines, this.#top));
    // A picture that is moved takes the finger; else the page scrolls.
    this.#canvas.style.touchAction = this.#zoom > 1 ? 'none' : 'pan-y';
    this.#later();
  }

  #reveal(): void {
    const { x, y } = placeOf(this.#grid?.side ?? 1, this.#cursor);
    const columns = this.#canvas.clientWidth / this.#cell;
    const lines = this.#canvas.clientHeight / this.#cell;
    if (x < this.#left || x + 1 > this.#left + columns) this.#left = x + 0.5 - columns / 2;
    if (y < this.#top || y + 1 > this.#top + lines) this.#top = y + 0.5 - lines / 2;
    this.#keepInside();
  }

  #key(event: KeyboardEvent): void {
    if (this.#grid === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    const leap = event.shiftKey ? Math.max(1, this.#grid.side / 16) : 1;
    const actions: Readonly<Record<string, () => void>> = {
      ArrowLeft: () => this.#step(-leap, 0),
      ArrowRight: () => this.#step(leap, 0),
      ArrowUp: () => this.#step(0, -leap),
      ArrowDown: () => this.#step(0, leap),
      PageUp: () => this.#nextChange(-1),
      PageDown: () => this.#nextChange(1),
      Home: () => this.select(0, true),
      End: () => this.select(Number.POSITIVE_INFINITY, true),
      Enter: () => this.#listener.onEnter(this.#cursor),
      '+': () => this.zoomIn(),
      '=': () => this.zoomIn(),
      '-': () => this.zoomOut(),
      '0': () => this.fit(),
    };
    const action = actions[event.key];
    if (action === undefined) return;
    event.preventDefault();
    action();
  }

  #step(dx: number, dy: number): void {
    const { x, y } = placeOf(this.#grid!.side, this.#cursor);
    const index = this.#indexOf({ x: x + dx, y: y + dy });
    if (index !== undefined) this.select(index, true);
  }

  /** The next cell along the disk that is of another kind. */
  #nextChange(direction: 1 | -1): void {
    const { side, kinds, count } = this.#grid!;
    const kindAt = (index: number) => {
      const { x, y } = placeOf(side, index);
      return kinds[y * side + x];
    };
    const kind = kindAt(this.#cursor);
    let index = this.#cursor;
    while (index >= 0 && index < count && kindAt(index) === kind) index += direction;
    this.select(index, true);
  }
}

/** Colours as the pixels of an image have them, for each number a cell can have. */
function paletteOf(colours: readonly string[]): Uint32Array {
  const bytes = new Uint8Array(256 * 4);
  colours.forEach((colour, i) => {
    const digits = colour.slice(1).padEnd(colour.length < 6 ? 4 : 8, 'f');
    const wide = digits.length === 4 ? [...digits].map((d) => d + d).join('') : digits;
    for (let k = 0; k < 4; k++)
      bytes[i * 4 + k] = Number.parseInt(wide.slice(k * 2, k * 2 + 2), 16);
  });
  return new Uint32Array(bytes.buffer);
}
