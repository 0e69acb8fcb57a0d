#pragma once
#include <yaml.h>

// The fields of the event union that readers need, as plain functions: a union of unnamed structs has no name to
// speak of on the other side.
static inline const unsigned char *warren_yaml_alias(const yaml_event_t *e) { return e->data.alias.anchor; }
static inline const unsigned char *warren_yaml_scalar(const yaml_event_t *e) { return e->data.scalar.value; }
static inline size_t warren_yaml_scalar_length(const yaml_event_t *e) { return e->data.scalar.length; }
static inline int warren_yaml_scalar_is_plain(const yaml_event_t *e) { return e->data.scalar.plain_implicit; }

static inline const unsigned char *warren_yaml_anchor(const yaml_event_t *e) {
    switch (e->type) {
    case YAML_SCALAR_EVENT: return e->data.scalar.anchor;
    case YAML_SEQUENCE_START_EVENT: return e->data.sequence_start.anchor;
    case YAML_MAPPING_START_EVENT: return e->data.mapping_start.anchor;
    default: return 0;
    }
}

static inline const unsigned char *warren_yaml_tag(const yaml_event_t *e) {
    switch (e->type) {
    case YAML_SCALAR_EVENT: return e->data.scalar.tag;
    case YAML_SEQUENCE_START_EVENT: return e->data.sequence_start.tag;
    case YAML_MAPPING_START_EVENT: return e->data.mapping_start.tag;
    default: return 0;
    }
}
