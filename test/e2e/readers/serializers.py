"""Produces messages with Confluent's serializers, and prints the rows that they are to become.

    python serializers.py FORMAT BROKERS REGISTRY TOPIC FIRST COUNT VERSION [PARTITION]

FORMAT is avro, protobuf or json, with "-header" behind it where the schema's GUID goes into a header, or "-imports" where the schema refers to another
one, has what only some schemas do (a union of several types, a type that is not the first one of its file), and uses what registries have built in. Messages FIRST to FIRST + COUNT - 1
are written by the schema of that VERSION, 1 or 2, to the partition, or to the partitions 0 and 1 in turn. Keys are records of the same format, but
that every seventh message has none. A line is a JSON array: partition, offset, row; rows.py says how values are printed.
"""

import datetime
import decimal
import sys
import uuid

import confluent_kafka
import rows
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient, header_schema_id_serializer, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from google.type import money_pb2

IMPORTS = len(sys.argv) > 1 and sys.argv[1].endswith("-imports")
START = datetime.datetime(2026, 3, 1, tzinfo=rows.UTC)


def instant(i):
    return START + datetime.timedelta(microseconds=i * 1_234_567)


def avro(i, version):
    """Schemas by version: the second one has another order of fields, a wider number, and a field more."""
    field = {
        "id": {"name": "id", "type": "int" if version == 1 else "long"},
        "at": {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        "day": {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        "price": {"name": "price", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}], "default": None},
        "ref": {"name": "ref", "type": {"type": "string", "logicalType": "uuid"}},
        "kind": {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["NEW", "PAID"]}},
        "raw": {"name": "raw", "type": "bytes"},
        "share": {"name": "share", "type": "double"},
        "lines": {"name": "lines", "type": {"type": "array", "items": {"type": "record", "name": "Line", "fields": [
            {"name": "sku", "type": "string"}, {"name": "pieces", "type": ["int", "null"], "default": 1}]}}},
        "note": {"name": "note", "type": ["null", "string"], "default": None},
    }
    if IMPORTS:
        field["lines"]["type"]["items"] = "shop.Line"
        placed = {"type": "record", "name": "Placed", "fields": [{"name": "by", "type": "string"}]}
        paid = {"type": "record", "name": "Paid", "fields": [{"name": "by", "type": "string"}, {"name": "cents", "type": "long"}]}
        field["event"] = {"name": "event", "type": ["null", placed, paid] if version == 1 else ["string", paid, "null", placed]}
    order = list(field) if version == 2 else [n for n in reversed(field) if n != "note"]
    schema = {"type": "record", "name": "Order", "namespace": "shop", "fields": [field[n] for n in order]}
    value = {
        "id": i, "at": instant(i), "day": instant(i * 1000).date(), "price": None if i % 5 == 0 else decimal.Decimal(i * 7 - 300) / 100,
        "ref": uuid.UUID(int=i * 7919), "kind": "PAID" if i % 3 else "NEW", "raw": bytes([i % 256, 0, 255]), "share": i / 7,
        "lines": [{"sku": f"s{k}", "pieces": None if k == 1 else k * i} for k in range(i % 4)], "note": f"höher {i}",
    }
    if version == 1:
        del value["note"]
    row = {**value, "ref": str(value["ref"]), "note": value.get("note")}
    if row["price"] is not None:
        row["price"] = row["price"].quantize(decimal.Decimal("0.01"))
    if IMPORTS:
        event = [None, {"by": f"x{i}"}, {"by": f"y{i}", "cents": i}, f"note {i}"][i % (version + 2)]
        value["event"] = event if not isinstance(event, dict) else (("shop.Paid" if "cents" in event else "shop.Placed"), event)
        row["event"] = None if event is None else {
            "member_string": event if isinstance(event, str) else None, "member_paid": event if "cents" in event else None,
            "member_placed": event if isinstance(event, dict) and "cents" not in event else None,
        }
    return rows.dump(schema), value, row


def protobuf(i, version, made={}):
    if version not in made:
        made[version] = message_type(version)
    m = made[version](id=i, share=i / 7, raw=bytes([i % 256, 0, 255]), kind=i % 2, at=instant(i))
    if IMPORTS:
        m.paid.currency_code, m.paid.units = "EUR", i
    for k in range(i % 4):
        m.lines.add(sku=f"s{k}", pieces=k * i)
    if i % 5:
        m.price = i * 7 - 300
    row = {
        "id": i, "share": i / 7, "raw": m.raw, "kind": ["NEW", "PAID"][i % 2], "at": instant(i), "price": m.price if i % 5 else None,
        "lines": [{"sku": line.sku, "pieces": line.pieces} for line in m.lines], "note": None,
    }
    if IMPORTS:
        row["paid"] = {"currency_code": "EUR", "units": i, "nanos": 0}
    if version == 2:
        m.note = row["note"] = f"höher {i}"
    return made[version], m, row


def message_type(version):
    """A type, which with imports is nested and not the first one of its file, so that it needs message indexes."""
    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name=f"orders{version}.proto", package="shop", syntax="proto3", dependency=["google/protobuf/timestamp.proto"])
    file.enum_type.add(name="Kind").value.extend(descriptor_pb2.EnumValueDescriptorProto(name=n, number=k) for k, n in enumerate(["NEW", "PAID"]))
    if IMPORTS:
        lines = descriptor_pb2.FileDescriptorProto(name="shop/line.proto", package="shop", syntax="proto3")
        file.dependency.extend([lines.name, "google/type/money.proto"])
        file.message_type.add(name="First")
        orders = file.message_type.add(name="Orders")
        orders.nested_type.add(name="First")
        order, line = orders.nested_type.add(name="Order"), lines.message_type.add(name="Line")
    else:
        order = file.message_type.add(name="Order")
        line = order.nested_type.add(name="Line")
    line.field.add(name="sku", number=1, type=kind.TYPE_STRING, label=kind.LABEL_OPTIONAL)
    line.field.add(name="pieces", number=2, type=kind.TYPE_SINT32, label=kind.LABEL_OPTIONAL)
    order.field.add(name="id", number=1, type=kind.TYPE_INT32 if version == 1 else kind.TYPE_INT64, label=kind.LABEL_OPTIONAL)
    order.field.add(name="share", number=2, type=kind.TYPE_DOUBLE, label=kind.LABEL_OPTIONAL)
    order.field.add(name="raw", number=3, type=kind.TYPE_BYTES, label=kind.LABEL_OPTIONAL)
    order.field.add(name="kind", number=4, type=kind.TYPE_ENUM, type_name=".shop.Kind", label=kind.LABEL_OPTIONAL)
    order.field.add(name="at", number=5, type=kind.TYPE_MESSAGE, type_name=".google.protobuf.Timestamp", label=kind.LABEL_OPTIONAL)
    order.field.add(name="lines", number=6, type=kind.TYPE_MESSAGE, type_name=".shop.Line" if IMPORTS else ".shop.Order.Line", label=kind.LABEL_REPEATED)
    order.field.add(name="price", number=77, type=kind.TYPE_INT64, label=kind.LABEL_OPTIONAL, proto3_optional=True, oneof_index=0)
    if IMPORTS:
        order.field.add(name="paid", number=9, type=kind.TYPE_MESSAGE, type_name=".google.type.Money", label=kind.LABEL_OPTIONAL)
    if version == 2:
        order.field.add(name="note", number=8, type=kind.TYPE_STRING, label=kind.LABEL_OPTIONAL)
    order.oneof_decl.add(name="_price")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(descriptor_pb2.FileDescriptorProto.FromString(timestamp_pb2.DESCRIPTOR.serialized_pb))
    if IMPORTS:
        pool.Add(descriptor_pb2.FileDescriptorProto.FromString(money_pb2.DESCRIPTOR.serialized_pb))
        pool.Add(lines)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Orders.Order" if IMPORTS else "shop.Order"))


def json_schema(i, version):
    properties = {
        "id": {"type": "integer"}, "share": {"type": "number"}, "paid": {"type": "boolean"}, "at": {"type": "string", "format": "date-time"},
        "day": {"type": "string", "format": "date"}, "price": {"oneOf": [{"type": "null"}, {"type": "number"}]},
        "lines": {"type": "array", "items": {"$ref": "#/definitions/line"}},
    }
    if IMPORTS:
        properties["lines"]["items"]["$ref"] = "line.json"
    if version == 2:
        properties["note"] = {"type": "string"}
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#", "title": "Order", "type": "object", "properties": properties,
        "definitions": {"line": {"type": "object", "properties": {"sku": {"type": "string"}, "pieces": {"type": "integer"}}}},
    }
    value = {
        "id": i, "share": i / 8, "paid": i % 3 == 0, "at": instant(i).isoformat(), "day": instant(i * 1000).date().isoformat(),
        "price": None if i % 5 == 0 else i * 7 / 4, "lines": [{"sku": f"s{k}", "pieces": k * i} for k in range(i % 4)],
    }
    row = {**value, "at": instant(i), "day": instant(i * 1000).date(), "note": None}
    if version == 2:
        value["note"] = row["note"] = f"höher {i}"
    return rows.dump(schema), value, row


def key_type():
    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="keys.proto", package="shop", syntax="proto3")
    key = file.message_type.add(name="OrderKey")
    key.field.add(name="region", number=1, type=kind.TYPE_STRING, label=kind.LABEL_OPTIONAL)
    key.field.add(name="id", number=2, type=kind.TYPE_INT64, label=kind.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.OrderKey"))


def keys(make):
    """The schema of keys, and what makes one of a row's."""
    if make is protobuf:
        made = key_type()
        return made, lambda row: made(**row)
    if make is avro:
        fields = [{"name": "region", "type": "string"}, {"name": "id", "type": "long"}]
        return rows.dump({"type": "record", "name": "OrderKey", "namespace": "shop", "fields": fields}), lambda row: row
    return rows.dump({"title": "OrderKey", "type": "object", "properties": {"region": {"type": "string"}, "id": {"type": "integer"}}}), lambda row: row


def serializers(make, schema, key_schema, url, conf):
    """Of a value and of a key."""
    registry = SchemaRegistryClient({"url": url})
    of = {
        avro: lambda schema: AvroSerializer(registry, schema, conf=conf),
        protobuf: lambda schema: ProtobufSerializer(schema, registry, {**conf, "use.deprecated.format": False}),
        json_schema: lambda schema: JSONSerializer(schema, registry, conf=conf),
    }[make]
    return of(referring(make, schema, registry)), of(key_schema)


def referring(make, schema, registry):
    """A schema with its references, which are registered before it; Protobuf's serializer does that by itself."""
    if not IMPORTS or make is protobuf:
        return schema
    kind, name, text = {
        avro: ("AVRO", "shop.Line", {"type": "record", "name": "Line", "namespace": "shop", "fields": [
            {"name": "sku", "type": "string"}, {"name": "pieces", "type": ["int", "null"], "default": 1}]}),
        json_schema: ("JSON", "line.json", {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object",
                                            "properties": {"sku": {"type": "string"}, "pieces": {"type": "integer"}}}),
    }[make]
    registry.register_schema(name, Schema(rows.dump(text), kind))
    return Schema(schema, kind, [SchemaReference(name, name, 1)])


def main():
    what, brokers, url, topic, first, count, version = sys.argv[1:8]
    first, count, version = int(first), int(count), int(version)
    fixed = int(sys.argv[8]) if len(sys.argv) > 8 else None
    make = {"avro": avro, "protobuf": protobuf, "json": json_schema}[what.removesuffix("-header").removesuffix("-imports")]
    schema, value, _ = make(first, version)
    key_schema, make_key = keys(make)
    conf = {"subject.name.strategy": topic_subject_name_strategy}
    serialize, key_of = serializers(make, schema, key_schema, url, conf)
    if what.endswith("-header"):
        serialize(value, SerializationContext(topic, MessageField.VALUE))  # which registers the schemas: a lookup tells their GUIDs
        key_of(make_key({"region": "", "id": 0}), SerializationContext(topic, MessageField.KEY))
        conf |= {"schema.id.serializer": header_schema_id_serializer, "auto.register.schemas": False}
        serialize, key_of = serializers(make, schema, key_schema, url, conf)
    producer = confluent_kafka.Producer({"bootstrap.servers": brokers, "enable.idempotence": True})
    lines = []

    def delivered(row):
        def done(error, message):
            if error is not None:
                raise SystemExit(f"producing: {error}")
            lines.append(rows.dump([message.partition(), message.offset(), row]))
        return done

    for i in range(first, first + count):
        _, value, row = make(i, version)
        key = None if i % 7 == 0 else {"region": f"rågion {i % 3}", "id": i}
        headers = {}  # of this message: the serializers put the GUIDs there
        key_bytes = None if key is None else key_of(make_key(key), SerializationContext(topic, MessageField.KEY, headers))
        value_bytes = serialize(value, SerializationContext(topic, MessageField.VALUE, headers))
        producer.produce(topic, key=key_bytes, value=value_bytes, headers=list(headers.items()),
                         partition=i % 2 if fixed is None else fixed, on_delivery=delivered({**row, "_key": key}))
    producer.flush()
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    print("\n".join(lines))


main()
