#include "CNFTables.h"
