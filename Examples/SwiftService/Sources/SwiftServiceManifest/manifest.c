#include <backplane/manifest.h>

// Asked for so that the compiler knows of the file and an edit of it builds this again.
#if !__has_include("manifest.json")
#error "manifest.json is missing; it belongs beside manifest.c."
#endif

BACKPLANE_MANIFEST("manifest.json")
