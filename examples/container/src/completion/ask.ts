/** By this command a shell asks what may be typed next. */
export const ASK = '__complete';
