// Counts what a thread asks of malloc, by taking its place in the program that links this.
#pragma once

#include <stdint.h>

uint64_t callocations_count(void);
