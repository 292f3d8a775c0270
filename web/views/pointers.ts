/** What pointers do on an element; places are in CSS pixels from its corner. */
export interface PointerListener {
  /** Moved without a button. */
  onMove(x: number, y: number): void;
  /** Moved with a button, or one finger. */
  onDrag(dx: number, dy: number): void;
  /** Two fingers moved; `factor` is how far apart they are now over before. */
  onPinch(factor: number, x: number, y: number): void;
  /** Pressed and released at one place. */
  onTap(x: number, y: number): void;
}

/** Movement that is still a tap, in CSS pixels. */
const TAP_PIXELS = 5;

/** Follows mouse, pen and fingers on an element. */
export function followPointers(element: HTMLElement, listener: PointerListener): void {
  const pressed = new Map<number, { x: number; y: number }>();
  let moved = 0;
  element.addEventListener('pointerdown', (event) => {
    element.setPointerCapture(event.pointerId);
    if (pressed.size === 0) moved = 0;
    pressed.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
  });
  element.addEventListener('pointermove', (event) => {
    const before = pressed.get(event.pointerId);
    const now = { x: event.offsetX, y: event.offsetY };
    if (before === undefined) return listener.onMove(now.x, now.y);
    moved += Math.hypot(now.x - before.x, now.y - before.y);
    const other = [...pressed].find(([id]) => id !== event.pointerId)?.[1];
    pressed.set(event.pointerId, now);
    if (other === undefined) {
      if (moved > TAP_PIXELS) listener.onDrag(now.x - before.x, now.y - before.y);
      return;
    }
    const apart = (a: typeof now) => Math.max(1, Math.hypot(a.x - other.x, a.y - other.y));
    const factor = apart(now) / apart(before);
    listener.onPinch(factor, (now.x + other.x) / 2, (now.y + other.y) / 2);
  });
  const end = (event: PointerEvent) => {
    if (!pressed.delete(event.pointerId) || event.type === 'pointercancel') return;
    if (pressed.size === 0 && moved <= TAP_PIXELS) listener.onTap(event.offsetX, event.offsetY);
  };
  element.addEventListener('pointerup', end);
  element.addEventListener('pointercancel', end);
}
