import {
  dockerCredentials,
  type ImageLayout,
  type NamedImage,
  type Platform,
  pullImage,
  type Store,
} from '@iso/unionfs';
import { progress } from './progress.js';

/**
 * Fetches an image, as the user that docker's or podman's configuration names.
 *
 * @param layout - where it goes
 * @param name - of the image
 * @param options - platform, whether plain http will do; `store`: where its layers are unpacked while others are still on their way
 * @returns what has the name now
 * @throws ImageError
 */
export function pull(
  layout: ImageLayout,
  name: string,
  options: { platform?: Platform | undefined; plainHttp?: boolean | undefined; store?: Store } = {},
): Promise<NamedImage> {
  const bar = progress('pulling');
  return pullImage(layout, name, {
    credentials: dockerCredentials(),
    onProgress: bar.layer,
    ...(options.platform ? { platform: options.platform } : {}),
    ...(options.plainHttp ? { plainHttp: true } : {}),
    ...(options.store ? { unpack: { store: options.store } } : {}),
  }).finally(bar.close);
}
