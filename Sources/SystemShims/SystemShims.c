#include "SystemShims.h"
