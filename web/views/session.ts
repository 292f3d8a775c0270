import { alertLine } from '../dom.ts';
import type { PartitionTable } from '../model/partitions.ts';
import type { Client } from '../worker/client.ts';
import { Superseded } from '../worker/client.ts';
import type { Given, Opened } from '../worker/messages.ts';

/** A place in the disk or in the image file, in bytes. */
export interface PlaceInImage {
  readonly in: 'disk' | 'file';
  readonly offset: number;
}

/** An open image, as the views see it. */
export interface Session {
  readonly client: Client;
  readonly opened: Opened;
  readonly given: readonly Given[];
  /** How the disk is divided; asked for once. */
  readonly partitions: Promise<PartitionTable>;
  /** Shows a place on the map, and its bytes. */
  goTo(place: PlaceInImage): void;
  /** Opens the image anew with one more of the files it names; where that fails, all stays as it is. */
  give(file: Given): Promise<void>;
}

/** A part of the page about one image. */
export type View = (panel: HTMLElement, session: Session) => Promise<void>;

/** Fills a panel; what goes wrong is said in it, in one line. */
export async function fill(panel: HTMLElement, view: View, session: Session): Promise<void> {
  panel.setAttribute('aria-busy', 'true');
  try {
    await view(panel, session);
  } catch (error) {
    if (error instanceof Superseded) return;
    panel.replaceChildren(alertLine(messageOf(error)));
  } finally {
    panel.removeAttribute('aria-busy');
  }
}

/** What an error says. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
