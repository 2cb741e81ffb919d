#ifndef BACKPLANE_CORE_H
#define BACKPLANE_CORE_H
#endif
