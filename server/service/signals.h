// The signals by which the process is told to end.
#ifndef HEADLIGHT_SERVER_SERVICE_SIGNALS_H_
#define HEADLIGHT_SERVER_SERVICE_SIGNALS_H_

namespace headlight {

// Blocks SIGTERM, SIGINT and SIGHUP. Before any thread starts, so that all inherit it.
void BlockSignals();

// Whether SIGTERM or SIGINT came.
bool EndSignalPending();

// Returns when a signal asks the process to end. SIGHUP does where the process's terminal is gone; elsewhere it asks a
// server to read its files again, which this one does by itself.
void WaitForEndSignal();

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_SIGNALS_H_
