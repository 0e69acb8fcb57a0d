#pragma once

/// Lets callgrind count from here. Nothing happens elsewhere than under it.
void callgrind_begin(void);

/// Stops counting and writes what was counted, under a name.
void callgrind_end(const char *name);
