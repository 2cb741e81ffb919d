#include <backplane/core.h>
