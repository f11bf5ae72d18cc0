/* routing/routing.h - the roof: who answers, and the life of a call. flow.c is what to read first. */
#ifndef ROUTING_ROUTING_H
#define ROUTING_ROUTING_H
#include "server/module.h"

extern const struct module routing_module;

#endif
