#include <backplane/backend.h>
#include <backplane/backend_query.h>
#include <backplane/feed.h>
#include <backplane/node.h>
#include <backplane/probe.h>
#include <backplane/schema.h>
#include <backplane/service.h>
#include <backplane/transport.h>
