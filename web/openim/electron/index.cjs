// Stand-in for Electron: a handle for calls between processes that are one process here, and a computer that never sleeps.
const handlers = new Map();

exports.ipcMain = {
  handle: (channel, handler) => handlers.set(channel, handler),
  removeHandler: (channel) => handlers.delete(channel),
};

/** Calls a handler as a page would. */
exports.invoke = (channel, ...args) => handlers.get(channel)({}, ...args);

exports.powerMonitor = { on() {}, removeListener() {} };
