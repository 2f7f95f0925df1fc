import type { NewLayer } from '../image/compose.js';
import type { HistoryEntry } from '../image/document.js';
import type { Image, ImageLayer } from '../image/image.js';
import type { StageConfig } from './configure.js';

/** What has been built of a stage. */
export interface Built {
  /** What it was begun with. */
  base: Image | undefined;
  /** Steps on that. */
  made: readonly (NewLayer | { step: HistoryEntry })[];
  /** All layers, the lowest first. */
  layers: readonly ImageLayer[];
  stage: StageConfig;
  /** When its last layer was made. */
  created: string;
}

/** What a step lies on. */
export function chainOf({ layers }: Pick<Built, 'layers'>): string {
  return layers.at(-1)?.chainId ?? '';
}
