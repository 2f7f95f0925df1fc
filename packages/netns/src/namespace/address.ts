import { AF, invalid } from '@iso/sys';
import { familyOf, ipBytes } from '../ip/ip.js';

/**
 * `struct sockaddr_in` or `sockaddr_in6`.
 *
 * @param host - IP address
 * @param port - 0 to 65535
 * @returns its bytes
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function socketAddress(host: string, port: number): Buffer {
  if (!Number.isInteger(port) || port < 0 || port > 65535) throw invalid(`a port is 0 to 65535, not ${port}`);
  const four = familyOf(host) === 4;
  const bytes = Buffer.alloc(four ? 16 : 28);
  bytes.writeUInt16LE(four ? AF.INET : AF.INET6, 0);
  bytes.writeUInt16BE(port, 2);
  ipBytes(host).copy(bytes, four ? 4 : 8);
  return bytes;
}
