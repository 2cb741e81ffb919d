#include <backplane/manifest.h>
BACKPLANE_MANIFEST("manifest.json")
